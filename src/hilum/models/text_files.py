"""Where a text model comes from, and the file of what an image-text method trains beside its encoder.

`text.safetensors` describes itself: its header holds the text model's config and tokenizer.
"""

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from hilum.errors import ConfigError, DependencyError, MissingError, WeightsError
from hilum.models.weights import read_tensors

TEXT_FILE = "text.safetensors"
HEADER = "hilum_text"
PREFIX = "text.bert."
"""Of the text model's tensors in that file: every image-text task calls its tower `text`."""


def read_text_model(source: str) -> tuple[nn.Module, Any]:
    """The model and its tokenizer (`tokenizers.Tokenizer`) from a folder, a hub, or an image-text run.

    Raises:
        ConfigError: the model is of an unknown kind.
        DependencyError: transformers is not installed, or the hub cannot be reached.
        MissingError: there is no such folder.
        WeightsError: the weights are damaged or do not fit their config.
    """
    _transformers()
    own = _own_file(Path(source).expanduser())
    return _from_run(own) if own else _from_transformers(source)


def pack(task: nn.Module, bert: nn.Module, tokenizer: Any) -> bytes:
    """Everything of a task but its `model`, as one file, with the text model's config and tokenizer."""
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in task.state_dict().items()
        if not name.startswith("model.")
    }
    config: Any = bert.config
    header = {"format": 1, "config": config.to_dict(), "tokenizer": tokenizer.to_str()}
    return safetensors.torch.save(tensors, {HEADER: json.dumps(header, sort_keys=True)})


def _own_file(source: Path) -> Path | None:
    path = source / TEXT_FILE if source.is_dir() else source
    return path if path.name == TEXT_FILE and path.is_file() else None


def _from_run(path: Path) -> tuple[nn.Module, Any]:
    from tokenizers import Tokenizer

    tensors = read_tensors(path)
    with safetensors.safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {}).get(HEADER, "{}"))
    if header.get("format") != 1:
        raise WeightsError(f"{path}: found text format {header.get('format')}; this version reads format 1")
    transformers = _transformers()
    bert = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**header["config"]))
    bert.register_module("pooler", None)
    own = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    if own.keys() != bert.state_dict().keys():
        raise WeightsError(f"{path}: its tensors are not those of its own config; the file is damaged")
    bert.load_state_dict(own)
    return bert, Tokenizer.from_str(header["tokenizer"])


def _from_transformers(source: str) -> tuple[nn.Module, Any]:
    folder = Path(source).expanduser()
    here = folder.is_dir()
    if not here and (folder.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1):
        raise MissingError(f"--text-model is {source!r}: no such folder")
    transformers = _transformers()
    where: dict[str, Any] = {
        "pretrained_model_name_or_path": str(folder) if here else source,
        "local_files_only": here,
        "trust_remote_code": False,
    }
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
        bert, report = _weights(transformers, where)
    except ValueError as error:
        raise ConfigError(f"--text-model is {source!r}: {_first_line(error)}") from None
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{source}: its weights hold more than tensors and are refused, since reading them could run code"
        ) from None
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        if here:
            raise WeightsError(f"{folder}: no text model can be read from it: {_first_line(error)}") from None
        raise DependencyError(
            f"--text-model is {source!r}: no such folder here, and it could not be fetched "
            f"({_first_line(error)}). Give a folder with config.json, model.safetensors and the tokenizer"
        ) from None
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing or report["mismatched_keys"]:
        raise WeightsError(f"{source}: tensors are missing or of another shape: {', '.join(missing[:5])}")
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(f"--text-model is {source!r}: its tokenizer is not one of the tokenizers library")
    return bert, tokenizer.backend_tokenizer


def _weights(transformers: Any, where: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    options = {"dtype": torch.float32, "output_loading_info": True}
    try:
        found = transformers.AutoModel.from_pretrained(**where, **options, use_safetensors=True)
    except OSError:
        # Older models are pickles, of which torch's loader takes nothing but the tensors.
        found = transformers.AutoModel.from_pretrained(**where, **options, use_safetensors=False)
    bert, report = found
    return bert, report


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise DependencyError('texts need the package transformers: pip install "hilum[text]"') from None
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive the loader's fork
    library: Any = transformers
    library.utils.logging.disable_progress_bar()
    library.utils.logging.set_verbosity_error()  # what is missing is an error of ours
    return library


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
