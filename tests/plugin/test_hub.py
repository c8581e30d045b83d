"""docTR's `from_hub`, unchanged, against a hub on this machine."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from doctr.models.factory.hub import _save_model_and_config_for_hf_hub
from golden_weights import CHECKPOINT, M_CLIP

import clip4str_doctr
from clip4str_doctr.config import model_config_to_dict

REPO_ID = "someone/clip4str-vn"

READ = """
import json, sys, torch
from doctr.models import from_hub, recognition_predictor
from clip4str_doctr.config import PRESETS, model_config_from_dict

# The preset, in the dimensions of the model that was saved: from_hub builds it before it reads any weights.
config = model_config_from_dict(json.load(open(sys.argv[2], encoding="utf-8")))
PRESETS[config.arch] = config
model = from_hub("someone/clip4str-vn")
predictor = recognition_predictor(model)
assert predictor.model is model and not model.training
assert predictor.pre_processor.resize.preserve_aspect_ratio and predictor.pre_processor.normalize.mean[0] == 0.694
assert model.postprocessor.confidence == "min"
torch.save(model.state_dict(), sys.argv[1])
print(json.dumps(model.cfg))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address, folder): the files of one repository, served as the Hugging Face hub serves them."""
    folder = tmp_path / "repository"
    folder.mkdir()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, body: bool) -> None:
            path = folder / self.path.removeprefix(f"/{REPO_ID}/resolve/main/")
            if not path.is_file():
                self.send_error(404)
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, format: str, *args: Any) -> None:
            """Silent: pytest shows what the server is asked for nowhere useful."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("arch", ["clip4str_vn_tiny", "clip4str_vn"])
def test_from_hub_round_trip(arch: str, hub: tuple[str, Path], run_python: Any, tmp_path: Path) -> None:
    address, folder = hub
    if arch == "clip4str_vn":
        model = clip4str_doctr.load_model(CHECKPOINT, tokenizer=M_CLIP)
    else:
        model = clip4str_doctr.clip4str_vn_tiny(pretrained=True)
    model.postprocessor.confidence = "min"
    # As of weights that docTR's training script made.
    model.cfg = {"mean": (0.694, 0.695, 0.693), "std": (0.299, 0.296, 0.301), "preserve_aspect_ratio": True}
    _save_model_and_config_for_hf_hub(model, str(folder), arch=arch, task="recognition")
    (tmp_path / "read.py").write_text(READ)
    (tmp_path / "preset.json").write_text(json.dumps(model_config_to_dict(model.config)), encoding="utf-8")
    environment = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0", "NO_PROXY": "*"}
    done = run_python("read.py", "again.pt", "preset.json", **environment)
    assert done.returncode == 0, done.stderr
    # All that answers hang on: what is not weights, too.
    assert json.loads(done.stdout) == json.loads(json.dumps(model.cfg))
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert again.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
