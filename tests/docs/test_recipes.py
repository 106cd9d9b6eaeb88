"""Every recipe of docs/recipes is followed word for word, in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from recipes import RecipeError, follow, read_blocks

DOCS = Path(__file__).parents[2] / "docs"
if not DOCS.exists():
    pytest.skip("installed without docs", allow_module_level=True)
PAGES = sorted((DOCS / "recipes").glob("*.md"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "empty"
    made.mkdir()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_recipe(page, folder):
    left_out = follow(page, folder)
    if left_out:
        pytest.skip(f"the rest was followed; {'; '.join(left_out)}")


def test_every_recipe_is_in_the_table():
    index = (DOCS / "recipes.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| .*\]\(recipes/([\w-]+)\.md\) *\|$", index, flags=re.MULTILINE)
    assert sorted(listed) == [page.stem for page in PAGES]
    assert "```{toctree}\n:hidden:\n:glob:\n\nrecipes/*\n```" in index


# ---- the runner itself -------------------------------------------------------------------
def written(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_blocks_share_a_folder_and_run_in_order(tmp_path, folder):
    page = written(
        tmp_path,
        "# Title\n\n```{code-block} python\n:caption: parts/own.py\n\nNAME = 'own'\n```\n\n"
        "```python\nimport minifbi\nfrom parts.own import NAME\nopen('made', 'w').write(NAME)\n"
        "```\n"
        '\n```bash\ntest -z "$(cat)"\npython -c \'print(open("made").read())\'\n```\n\n'
        "```text\nown\n```\n\nand not its output:\n\n```text\nother\n```\n\n"
        "```{code-block} text\nanything\n```\n",
    )
    assert follow(page, folder) == []
    assert (folder / "parts" / "own.py").read_text("utf-8") == "NAME = 'own'\n"
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["made"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```bash\ntrue\nfalse\ntrue\n```\n", r"line 2: exit code 1\ntrue\nfalse"),
        ("```bash\nfalse | cat\n```\n", "line 2: exit code 1"),
        ("```bash\necho $UNSET_NAME\n```\n", "line 2: exit code 1"),
        ("\n```bash\necho said; exit 3\n```\n", "line 3: exit code 3\n(.|\n)*printed\nsaid\n"),
        ("```bash\ncat gone.txt\n```\n", "gone.txt"),
        ("\n\n```python\n\n1 / 0\n```\n", 'File "<stdin>", line 5(.|\n)*ZeroDivisionError'),
        ("```python\nimport net\n```\n```{code-block} python\n:caption: net.py\n```\n", "'net'"),
        ("```bash\necho a\n```\n\n```text\nb\n```\n", "line 6: the page says\nb\nand .* is\na\n"),
        ("```sh\nfalse\n```\n", "line 1: '```sh': expected ```bash"),
        ("- a\n\n  ```bash\n  false\n  ```\n", "line 3.*at the start of a line"),
        ("~~~bash\nfalse\n~~~\n", "line 1"),
        ("```bash\nfalse\n", "line 1: a block without an end"),
        ("```{code-block} bash\nfalse\n```\n", "page.md has nothing to run"),
        ("```bash\ntrue\n```\n```{code-block} c\n:caption: ../a.c\n```\n", "not inside the folder"),
    ],
)
def test_what_goes_wrong_is_said(tmp_path, folder, text, message):
    with pytest.raises(RecipeError, match=message):
        follow(written(tmp_path, text), folder)
    assert not (tmp_path / "a.c").exists()


def test_a_block_that_needs_a_module_is_left_out_and_named(tmp_path, folder):
    page = written(
        tmp_path,
        "```python\n# needs: no_such_module\nimport no_such_module\n```\n\n```text\nits output\n"
        "```\n\n```bash\n# needs: numpy\ntouch done\n```\n",
    )
    assert follow(page, folder) == ["line 2 needs no_such_module"]
    assert (folder / "done").exists()


def test_lines_are_those_of_the_page():
    text = "a\n\n```{code-block} python\n:caption: x.py\n:linenos:\n\none\n```\n```bash\ntwo\n```\n"
    one, two = read_blocks(text, "page")
    assert (one.line, one.text, one.caption, one.follows) == (7, "one\n", "x.py", False)
    assert (two.line, two.text, two.caption, two.follows) == (10, "two\n", "", True)
