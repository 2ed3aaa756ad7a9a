"""What a model's class says of itself is read from its source, without importing it."""

from xtalgen.experiment import model_traits


def test_shared_checkpoint_is_read_without_importing(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/flow.py").write_text("import xtalgen.crystals\nshared_checkpoint = False\n")
    (tmp_path / "models/both.py").write_text("class Model:\n    shared_checkpoint: bool = True\n")
    monkeypatch.setattr(model_traits, "PACKAGE", tmp_path)
    assert model_traits.shares_checkpoint("both")
    assert not model_traits.shares_checkpoint("flow")
