"""What the values of config keys may be, and what is said about the others."""

from __future__ import annotations

import pytest

from actbench.config import Choice, Variant
from actbench.config.variant import RECIPE
from configs import loaded, problems, problems_of


def test_a_choice_is_a_name_a_mapping_or_a_chain() -> None:
    assert Variant(activation="leaky_relu").activation[0].params == {"negative_slope": 0.01}
    chain = Variant(activation=["relu", {"name": "leaky_relu", "negative_slope": 1}]).activation
    assert [link.label for link in chain] == ["relu", "leaky_relu(negative_slope=1)"]
    assert Variant(optimizer={"name": "sgd", "momentum": 0.9}).optimizer.params == {
        "momentum": 0.9,
        "nesterov": False,
    }
    assert Variant(activation=["relu"]) == Variant(activation="relu")
    assert Variant(activation={"name": "leaky_relu", "negative_slope": 0.01}) == Variant(activation="leaky_relu")


def test_a_label_shows_the_parameters_that_differ_from_their_defaults() -> None:
    assert Choice.of("activation", "leaky_relu", negative_slope=0.2).label == "leaky_relu(negative_slope=0.2)"
    assert Choice.of("activation", "leaky_relu").label == "leaky_relu"
    assert Choice.of("activation", "leaky_relu").plain == "leaky_relu"
    assert Choice.of("optimizer", "sgd", momentum=0.5, nesterov=True).label == "sgd(momentum=0.5, nesterov=true)"


@pytest.mark.parametrize(
    ("given", "held"), [(False, False), (True, "before"), ("before", "before"), ("after", "after")]
)
def test_batch_norm_true_means_before(given: object, held: object) -> None:
    assert Variant(batch_norm=given).batch_norm == held


@pytest.mark.parametrize("none", ["none", False, None, {}, {"rotation": 0, "shift": 0.0}])
def test_no_augmentation_can_be_written_in_several_ways(none: object) -> None:
    assert Variant(augment=none).augment is None


def test_numbers_may_be_written_as_people_write_them() -> None:
    for text in ("1e-3", "0.001", "1E-3", ".001", "1.e-3"):
        assert loaded(f"lr: {text}").variant.lr == 0.001
    assert loaded("lr: 1e3").variant.lr == 1000.0
    assert isinstance(loaded("lr: 1").variant.lr, float)
    assert str(loaded("bias_init: -0.0").variant.bias_init) == "0.0"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("true", "got true"), ("'5'", "got '5'; remove the quotes"), ("5.0", "got 5.0; write 5"),
        ("1e3", "got 1000.0; write 1000"), ("012", "got 012; write 12"), ("0x10", "got 0x10; write 16"),
        ("1_000", "got 1_000; write 1000"), ("1:30", "got 1:30"), ("5.5", "got 5.5"), ("0", "got 0"),
        ("-1", "got -1"), ("five", "got 'five'"), ("", "got nothing"), ("[5]", "got [5]"),
        ("{a: 5}", "got {a: 5}"),
        (".inf", "got inf"), ("100001", "got 100001"), ("no", "got no"), ("9" * 25, "got " + "9" * 25),
    ],
)  # fmt: skip
def test_an_integer_is_an_integer_and_nothing_like_it(written: str, message: str) -> None:
    assert problems(f"epochs: {written}")[0].endswith(f"epochs: must be an integer >= 1 and <= 100000, {message}")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("fast", "got 'fast'"), (".nan", "got nan"), ("nan", "got 'nan'"), (".inf", "got inf"),
        ("1e999", "got inf"), ("0", "got 0"), ("0.0", "got 0.0"), ("-0.1", "got -0.1"),
        ("1e7", "got 10000000.0"), ("true", "got true"),
        ("0,001", "got '0,001'; write it with a point"), ("'1e-3'", "got '1e-3'; remove the quotes"),
        ("", "got nothing"), ("[0.1]", "got [0.1]"), ("010", "got 010; write 10"),
        ("1" * 99, f"got {'1' * 57}..."),
    ],
)  # fmt: skip
def test_a_learning_rate_is_a_positive_number(written: str, message: str) -> None:
    assert problems(f"lr: {written}") == [
        f"x.yaml:1:{4 if not written else 5}: lr: must be a number > 0 and <= 1e+06, {message}"
    ]


REFUSED = [
    (
        "dataset: mnits",
        10,
        "dataset: unknown dataset 'mnits'; did you mean 'mnist'? See: actbench list datasets",
    ),
    ("network: transformer", 10, "network: unknown network 'transformer'. Known: mlp, cnn"),
    (
        "activation: no",
        13,
        "activation: must be the name of an activation, got no; quote it if you mean a name",
    ),
    (
        "activation: null",
        13,
        "activation: must be the name of an activation, got null; quote it if you mean a name",
    ),
    ("activation: 3", 13, "activation: unknown activation 3. See: actbench list activations"),
    ("activation: []", 13, "activation: must have 1 to 8 items, got 0"),
    ("activation: [relu, [relu]]", 20, "activation[1]: unknown activation ['relu']"),
    (
        "activation: {negative_slope: 1}",
        13,
        "activation: needs a name as well as its parameters, such as {name: ",
    ),
    ("activation: {name: reul}", 20, "activation.name: unknown activation 'reul'; did you mean 'relu'?"),
    (
        "activation: {name: relu, slope: 1}",
        26,
        "activation.slope: unknown parameter 'slope' of relu; it has none",
    ),
    (
        "activation: [{name: elu, alpha: -1}]",
        33,
        "activation[0].alpha: must be a number >= 0 and <= 100, got -1",
    ),
    (
        "activation: {name: gelu, approximate: tahn}",
        39,
        "activation.approximate: must be one of 'none', 'tanh', got",
    ),
    (
        "init: he_norml",
        7,
        "init: unknown initializer 'he_norml'; did you mean 'he_normal'? See: actbench list inits",
    ),
    ("init: {name: he_normal, gain: big}", 31, "init.gain: must be one of 'auto' or a number > 0"),
    (
        "optimizer: {name: sgd, nesterov: yes}",
        34,
        "optimizer.nesterov: must be true or false, got yes; write true",
    ),
    (
        "optimizer: {name: sgd, nesterov: true}",
        34,
        "optimizer.nesterov: needs momentum > 0; set it, or write `opt",
    ),
    (
        "schedule: cosin",
        11,
        "schedule: unknown schedule 'cosin'; did you mean 'cosine'? Known: constant, step,",
    ),
    ("batch_norm: no", 13, "batch_norm: must be true, false, before or after, got no; write false"),
    (
        "batch_norm: befor",
        13,
        "batch_norm: must be true, false, before or after, got 'befor'; did you mean 'befor",
    ),
    ("hidden: 512", 9, "hidden: must be a list such as [512], got 512"),
    ("hidden: [0]", 10, "hidden[0]: must be an integer >= 1 and <= 16384, got 0"),
    (f"hidden: [{'1,' * 101}]", 9, "hidden: must have 0 to 100 items, got 101"),
    ("hidden: [16384, 16384]", 9, "hidden: makes 281 million parameters; at most 200 million are allowed"),
    ("seeds: 0", 8, "seeds: must be an integer >= 1 and <= 10000, got 0"),
    ("seeds: []", 8, "seeds: must have 1 to 10000 items, got 0"),
    ("seeds: [1, -1]", 12, "seeds[1]: must be an integer >= 0"),
    ("seeds: [true]", 9, "seeds[0]: must be an integer >= 0"),
    ("seeds: [4, 5, 4]", 15, "seeds[2]: seed 4 is given twice"),
    (f"seeds: [{2**63}]", 9, "seeds[0]: must be an integer >= 0"),
    ("seeds:", 7, "seeds: must be an integer >= 1 and <= 10000, got nothing"),
    (
        "probe: tset",
        8,
        "probe: must be one of 'train', 'test' or an integer >= 1 and <= 10000000, got 'tset'; did you mean 'test'?",
    ),
    ("probe: 1.0", 8, "probe: must be one of 'train', 'test' or an integer >= 1 and <= 10000000, got 1.0; write 1"),
    ("probe: true", 8, "probe: must be one of 'train', 'test' or an integer >= 1 and <= 10000000, got true"),
    ("device: gpu", 9, "device: must be auto, cpu, cuda or cuda:N, got 'gpu'; did you mean 'cpu'?"),
    ("device: cuda:01", 9, "device: must be auto, cpu, cuda or cuda:N, got 'cuda:01'"),
    ("device: 'cpu\n\n'", 9, "device: must be auto, cpu, cuda or cuda:N, got 'cpu\\n'"),
    ("augment: yes", 10, "augment: must be none or a mapping such as {rotation: 10, shift: 2}, got yes"),
    (
        "augment: {rotate: 3}",
        11,
        "augment.rotate: unknown parameter 'rotate' of augment; did you mean 'rotation'?",
    ),
    ("augment: {rotation: 181}", 21, "augment.rotation: must be a number >= 0 and <= 180, got 181"),
    ("tags: quick", 7, "tags: must be a list such as [quick, draft], got 'quick'"),
    ("tags: [off]", 8, 'tags[0]: must be text, got off; quote it: "off"'),
    ("learning_rate: 1", 1, "unknown key 'learning_rate'; did you mean 'lr'?"),
    ("zzz: 1", 1, "unknown key 'zzz'; see: actbench schema"),
]


def test_the_ends_of_a_range_are_in_order() -> None:
    assert problems("activation: {name: rrelu, lower: 0.5, upper: 0.25}\n") == [
        "x.yaml:1:34: activation.lower: must not be above upper, got 0.5 > 0.25"
    ]


@pytest.mark.parametrize(("written", "column", "message"), REFUSED)
def test_each_refusal_says_where_what_and_what_is_allowed(written: str, column: int, message: str) -> None:
    (found,) = problems(written + "\n")
    assert found.startswith(f"x.yaml:1:{column}: {message}")


@pytest.mark.parametrize(
    "key", [key for key in RECIPE if key not in ("augment", "bias_init", "train_limit", "test_limit")]
)
@pytest.mark.parametrize("value", [None, "\x1b[31m", [["\0"]], {"a": {}}, 10**90, -1, float("nan")])
def test_no_key_takes_or_breaks_on_a_value_of_the_wrong_kind(key: str, value: object) -> None:
    found = problems_of(**{key: value})[0]
    assert found.startswith(f"config: {key}")
    assert found.isprintable()
