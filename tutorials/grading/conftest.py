"""The option of test_exercises.py."""


def pytest_addoption(parser):
    parser.addoption("--notebooks", help="folder with students' notebooks, for test_exercises.py")
