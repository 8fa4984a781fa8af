import pytest
from pydantic import ValidationError

from hilum.config import CellsConfig, PretextConfig, TrainConfig, read_yaml
from hilum.errors import ConfigError


def test_all_wrong_settings_are_told_at_once_with_the_nearest_name():
    with pytest.raises(ConfigError) as caught:
        TrainConfig.build({"batchsize": 3, "lr": "fast", "schedule": "cosin"}, "x.yaml")
    message = str(caught.value)
    assert "no setting 'batchsize'; did you mean 'batch_size'?" in message
    assert "--lr is 'fast'" in message
    assert "did you mean 'cosine'?" in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 10, "accumulate": 3}, "cannot be split into 3 equal parts"),
        ({"schedule": "plateau"}, "needs monitor"),
        ({"patience": 2}, "needs monitor"),
        ({"lr": 0}, "must be above 0"),
        ({"lr": float("nan")}, "finite"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.build(values, "flags")


@pytest.mark.parametrize("values", [{"seeds": []}, {"seeds": [0, 1, 0]}, {"label_fraction": [0.1, 1, 1.0]}])
def test_a_cell_that_would_be_fitted_twice_or_never_is_refused(values):
    with pytest.raises(ConfigError, match=f"--{next(iter(values)).replace('_', '-')} .*all different"):
        CellsConfig.build(values, "flags")


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        TrainConfig().lr = 1


def test_every_setting_is_documented():
    assert all(field.description for field in TrainConfig.model_fields.values())


def test_a_settings_file_round_trips(tmp_path):
    config = TrainConfig(lr=3e-4, schedule="step", epochs=0.5)
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    assert TrainConfig.build(read_yaml(tmp_path / "c.yaml"), "c.yaml") == config


def test_a_settings_file_that_is_no_mapping_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("- a\n- b\n")
    with pytest.raises(ConfigError, match="found list; expected lines of `setting: value`"):
        read_yaml(tmp_path / "c.yaml")


def test_paths_and_single_values_from_python_are_taken_as_they_are_meant(tmp_path):
    given = {"method": "simclr", "records": "films.csv", "init": tmp_path, "findings": "Edema"}
    config = PretextConfig.build({**given, "hold_out": tmp_path / "other.csv"}, "pretrain")
    assert (config.init, config.findings) == (str(tmp_path), ["Edema"])
    assert config.hold_out == [tmp_path / "other.csv"]
    cells = CellsConfig.build({"label_fraction": 0.1, "seeds": 3}, "transfer")
    assert (cells.label_fraction, cells.seeds) == ([0.1], [3])
    with pytest.raises(ConfigError, match="--init is 3"):
        PretextConfig.build({**given, "init": 3}, "pretrain")
    with pytest.raises(ConfigError, match="--seeds"):
        CellsConfig.build({"seeds": {"a": 1}}, "transfer")
