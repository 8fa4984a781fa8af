import pytest
from pydantic import ValidationError

from hilum.config import CellsConfig, TrainConfig, read_yaml
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
