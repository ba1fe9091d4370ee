"""Settings every test shares: no network, a fixed terminal, deterministic hypothesis."""

import os
import signal
import tempfile

# A background job of a shell ignores Ctrl-C, and so would everything that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
STATE = tempfile.TemporaryDirectory(prefix="lsn-tests-state-")
"""Where the key of undo files and the times of runtimes lie, not the user's own."""
os.environ.update(
    HF_HUB_OFFLINE="1",
    NO_COLOR="1",
    COLUMNS="100",
    LINES="30",
    TERM="xterm-256color",
    OPENCV_LOG_LEVEL="SILENT",
    TERMINAL_WIDTH="100",
    XDG_STATE_HOME=STATE.name,
    _TYPER_FORCE_DISABLE_TERMINAL="1",
)
for name in (
    "FORCE_COLOR",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
):  # would speak for a terminal that is not there
    os.environ.pop(name, None)
# Programs that tests start compile this package once, and not each of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers with a thread for every core wait for one another. Tests of threads set their number themselves.
    os.environ["OMP_NUM_THREADS"] = "1"
for name in [name for name in os.environ if name.startswith("LSN_") and name != "LSN_IMAGES"]:
    del os.environ[name]
os.environ["LSN_CACHE"] = STATE.name
# Without AMX. On a virtual machine under load, processes that had used it crashed at a fork or a signal.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
os.environ.setdefault("MKL_ENABLE_INSTRUCTIONS", "AVX512")

from hypothesis import settings

settings.register_profile("lsn", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("lsn")

import json

import pytest
import torch

pytest_plugins = ["cli_runner", "workspace_samples"]
"""Modules of tests/fixtures whose fixtures all tests share."""

TINY = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"layers": 2, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 32},
        "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.3], "interpolation": "bicubic"},
}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a small CLIP with random weights, every parameter moved off its initial value."""
    from safetensors.torch import save_file

    from lsncli.backbones.loading import ensure_torchvision

    ensure_torchvision()
    import open_clip

    from lsncli.methods import words

    words.KNOWN_WORDS["local-dir"] = words.IMAGENET  # WordNet's 70,000 words take half a minute
    folder = tmp_path_factory.mktemp("tiny-clip")
    (folder / "open_clip_config.json").write_text(json.dumps(TINY))
    generator = torch.Generator().manual_seed(7)
    with torch.random.fork_rng():
        torch.manual_seed(7)  # equal in every process, or tests flicker
        model = open_clip.CLIP(**TINY["model_cfg"])
    weights = {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in model.state_dict().items()
    }
    weights["logit_scale"] = torch.tensor(100.0).log()
    save_file(weights, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


@pytest.fixture(scope="session")
def tiny_backbone(tiny_model: str):
    from lsncli.backbones import load_backbone

    return load_backbone(tiny_model, device="cpu")


@pytest.fixture(scope="session")
def tiny_coca(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a small CoCa with random weights: what it says depends on the image and on what it said."""
    from safetensors.torch import save_file

    from lsncli.backbones.loading import ensure_torchvision

    ensure_torchvision()
    import open_clip

    text = TINY["model_cfg"]["text_cfg"] | {"context_length": 20, "layers": 1}
    image = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    parts = {
        "embed_dim": 32,
        "vision_cfg": TINY["model_cfg"]["vision_cfg"] | image,
        "text_cfg": text | {"embed_cls": True, "output_tokens": True},
        "multimodal_cfg": text | {"attn_pooler_heads": 2},
    }
    folder = tmp_path_factory.mktemp("tiny-coca")
    config = {"model_cfg": parts | {"custom_text": True}, "preprocess_cfg": TINY["preprocess_cfg"]}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(5)
    weights = {
        # open_clip leaves some of a CoCa's parameters uninitialised: nothing is taken from it but shapes.
        name: (value.ndim == 1 and name.endswith("weight"))
        + 0.3 * torch.randn(value.shape, generator=generator)
        for name, value in open_clip.CoCa(**parts).state_dict().items()
        if value.is_floating_point()
    }
    weights["logit_scale"] = torch.tensor(100.0).log()
    save_file(weights, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"
