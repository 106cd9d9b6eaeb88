"""A few thousand inputs of every fuzzing target; ``python tests/tools/fuzz`` runs millions."""

from __future__ import annotations

import random

import pytest
from fuzz import commands, mutators, targets
from hypothesis import given, settings
from hypothesis import strategies as st

TARGETS = {
    **targets.TARGETS,
    "command": targets.Target(commands.run, commands.seeds, commands.mutate),
}
COUNTS = {"idx": 1500, "folder": 600, "checkpoint": 900, "resume": 150, "command": 600}


@pytest.mark.parametrize("name", TARGETS)
def test_only_documented_errors(name):
    target, rng = TARGETS[name], random.Random(f"minifbi {name}")
    pool = target.seeds()
    fixed, accepted, refused = len(pool), 0, 0
    for data in pool:  # what is right stays right; a command line may ask for what is not here
        assert target.run(data) or name in ("results", "command"), data
    for _ in range(COUNTS.get(name, 1000)):
        data = target.mutate(rng.choice(pool[:fixed] if rng.random() < 0.6 else pool), rng)
        if target.run(data):
            accepted += 1
        else:
            refused += 1
        if len(data) < 20_000:
            pool.append(data)
    # a fuzzer that is refused always, or never, looks at nothing
    assert accepted >= 3
    assert refused > 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
OPTIONS = st.sampled_from(sorted(targets.TrainConfig().to_dict()))


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(OPTIONS, JSON, max_size=3), st.integers(0, 2**32))
def test_configurations_of_any_values(changes, seed):
    """Any JSON value in the place of any option."""
    values = {**targets.tiny_config().to_dict(), **changes}
    targets.run_config(targets.json.dumps(values).encode("utf-8", "replace"))
    targets.run_config(
        mutators.mutate_json(targets.json.dumps(values).encode(), random.Random(seed))
    )


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.text(st.characters(exclude_characters="\n")), max_size=5),
    st.sampled_from(sorted(commands.MAINS)),
)
def test_command_lines_of_any_words(words, command):
    """Arguments of any letters, half surrogate pairs and control characters among them."""
    line = "\n".join([command, *words])
    commands.run(line.encode("utf-8", "surrogatepass"))
