"""Networks that a user brings, as files saved here: read whole or refused, and never run as code."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

from stages.contracts import UserError
from stages.encoders import timm_file, transformers_folder
from stages.encoders.timm_file import TimmSettings
from stages.encoders.transformers_folder import TransformersSettings

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
MODEL = "vit_tiny_patch16_224"
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
README = "---\nlicense: {licence}\n---\n\n# {title}\n\nText of the card.\n"


@pytest.fixture(scope="module")
def pixels_nhwc() -> np.ndarray:
    """40 tiles of 16 px: more than pass a network together."""
    return np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)


def by_pillow(pixels_nhwc: np.ndarray, size_px: int, mean: list[float], std: list[float]) -> torch.Tensor:
    """What the network should see, made without torchvision."""
    tiles = [Image.fromarray(p).resize((size_px, size_px), Image.Resampling.BICUBIC) for p in pixels_nhwc]
    img_nhwc = (np.stack([np.asarray(tile) for tile in tiles]) / 255 - mean) / std
    return torch.from_numpy(img_nhwc).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    """A tiny ViT of timm with a classifier, and its weights as safetensors."""
    torch.manual_seed(0)
    network = timm.create_model(MODEL, pretrained=False, num_classes=7, **TINY).eval()
    path = tmp_path_factory.mktemp("timm") / "vit.safetensors"
    save_file(network.state_dict(), path)
    return network, path


def given(path: Path, **more: Any) -> TimmSettings:
    return TimmSettings(**({"model": MODEL, "weights": path, "arguments": TINY, "image_px": 32} | more))


def encode(settings: TimmSettings | TransformersSettings, pixels_nhwc: np.ndarray) -> torch.Tensor:
    module: Any = timm_file if isinstance(settings, TimmSettings) else transformers_folder
    with torch.inference_mode():
        found = module.read(module.about(settings).source)(pixels_nhwc)
    assert set(found) == {"features"}
    return found["features"].clone()


def test_timm_features_are_those_before_the_classifier(vit: tuple[Any, Path], pixels_nhwc: np.ndarray) -> None:
    network, path = vit
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    found = encode(given(path, mean=mean, std=std), pixels_nhwc)
    img_nchw = by_pillow(pixels_nhwc, 32, mean, std)
    wanted = network.forward_head(network.forward_features(img_nchw), pre_logits=True)
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)  # torchvision's bicubic is Pillow's to a grey level
    assert found.shape == (40, 16)


def test_where_nothing_is_said_timm_says_how_a_model_is_fed(vit: tuple[Any, Path], pixels_nhwc: np.ndarray) -> None:
    usual = timm.get_pretrained_cfg(MODEL)
    told = encode(given(vit[1], mean=usual.mean, std=usual.std), pixels_nhwc)
    assert torch.equal(encode(given(vit[1]), pixels_nhwc), told)
    assert not torch.allclose(encode(given(vit[1], mean=(0, 0, 0)), pixels_nhwc), told)


def test_a_file_of_pytorch_with_tensors_alone_gives_the_same(
    vit: tuple[Any, Path], pixels_nhwc: np.ndarray, tmp_path: Path
) -> None:
    torch.save({"state_dict": vit[0].state_dict()}, tmp_path / "vit.pt")
    assert torch.equal(encode(given(tmp_path / "vit.pt"), pixels_nhwc), encode(given(vit[1]), pixels_nhwc))


def test_a_convolutional_network_of_timm_takes_any_size(pixels_nhwc: np.ndarray, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = timm.create_model("resnet10t", pretrained=False).eval()
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    settings = TimmSettings(model="resnet10t", weights=tmp_path / "net.safetensors", image_px=40)
    found = encode(settings, pixels_nhwc[:3])
    usual = timm.get_pretrained_cfg("resnet10t")
    img_nchw = by_pillow(pixels_nhwc[:3], 40, list(usual.mean), list(usual.std))
    wanted = network.forward_features(img_nchw).mean(dim=(2, 3))
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05)


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Code()}, tmp_path / "a.pt")
    (tmp_path / "b.bin").write_bytes(pickle.dumps(Code(), protocol=2))
    for name in ("a.pt", "b.bin"):
        with pytest.raises(UserError, match="A PyTorch file must hold tensors alone"):
            encode(given(tmp_path / name), np.zeros((1, 16, 16, 3), np.uint8))
    assert not Path("ran").exists()


def without(network: torch.nn.Module, key: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if name != key}


def test_weights_that_do_not_fit_are_told_by_name(vit: tuple[Any, Path], tmp_path: Path) -> None:
    state = without(vit[0], "norm.weight") | {"strange": torch.zeros(1), "norm.bias": torch.zeros(3)}
    save_file(state, tmp_path / "vit.safetensors")
    told = r"1 missing \(norm.weight\); 1 unexpected \(strange\); 1 of another shape \(norm.bias\)"
    with pytest.raises(UserError, match=told):
        encode(given(tmp_path / "vit.safetensors"), np.zeros((1, 16, 16, 3), np.uint8))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model": "vit_tinny_patch16_224"}, "knows no model .*near are .*vit_tiny_patch16_224"),
        ({"image_px": 40}, "cannot see tiles of 40 px"),
        ({"arguments": TINY | {"nonsense": 1}}, "cannot build"),
        ({"arguments": TINY | {"global_pool": ""}}, "not a vector"),
    ],
)
def test_what_cannot_be_built_says_what_to_do(vit: tuple[Any, Path], settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        encode(given(vit[1], **settings), np.zeros((1, 16, 16, 3), np.uint8))


@pytest.mark.parametrize("model", ["hf-hub:someone/model", "local-dir:/x", "../x"])
def test_a_model_that_is_not_a_name_of_timm_is_no_setting(model: str) -> None:
    with pytest.raises(ValueError, match="model"):
        TimmSettings(model=model, weights=Path("x"))
    with pytest.raises(ValueError, match="cannot be given"):
        TimmSettings(model=MODEL, weights=Path("x"), arguments={"pretrained": True})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small ViT and a small DINOv2 with registers, as save_pretrained writes them."""
    root = tmp_path_factory.mktemp("transformers")
    torch.manual_seed(0)
    vit = transformers.ViTModel(transformers.ViTConfig(intermediate_size=32, **SIZES))
    vit.save_pretrained(root / "vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(root / "vit")
    config = transformers.Dinov2WithRegistersConfig(num_register_tokens=3, **SIZES)
    transformers.Dinov2WithRegistersModel(config).save_pretrained(root / "dino")
    crop = {"height": 32, "width": 32}
    transformers.BitImageProcessor(size={"shortest_edge": 40}, crop_size=crop).save_pretrained(root / "dino")
    (root / "dino" / "README.md").write_text(README.format(licence="cc-by-nc-4.0", title="Little DINO"))
    return {name: root / name for name in ("vit", "dino")}


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_a_vit_of_transformers_sees_what_its_own_processor_shows(
    folders: dict[str, Path], pixels_nhwc: np.ndarray, pooling: str
) -> None:
    found = encode(TransformersSettings(folder=folders["vit"], pooling=pooling), pixels_nhwc)
    processor = transformers.ViTImageProcessor.from_pretrained(folders["vit"])
    network = transformers.ViTModel.from_pretrained(folders["vit"]).eval()
    out = network(**processor([Image.fromarray(p) for p in pixels_nhwc], return_tensors="pt"))
    tokens = {"cls": out.last_hidden_state[:, 0], "mean": out.last_hidden_state[:, 1:].mean(1)}
    torch.testing.assert_close(found, tokens.get(pooling, out.pooler_output), rtol=1e-3, atol=1e-4)


def test_registers_are_no_patches_and_the_whole_tile_is_seen(folders: dict[str, Path], pixels_nhwc: np.ndarray) -> None:
    settings = TransformersSettings(folder=folders["dino"], pooling="mean")
    found = encode(settings, pixels_nhwc)
    network = transformers.AutoModel.from_pretrained(folders["dino"]).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folders["dino"])
    img_nchw = by_pillow(pixels_nhwc, 32, processor.image_mean, processor.image_std)
    tokens_ntd = network(pixel_values=img_nchw).last_hidden_state
    assert tokens_ntd.shape[1] == 1 + 3 + 16
    torch.testing.assert_close(found, tokens_ntd[:, 4:].mean(1), rtol=0.02, atol=0.02)


def test_name_digest_and_licence_come_from_the_folder(folders: dict[str, Path]) -> None:
    about = transformers_folder.about(TransformersSettings(folder=folders["dino"]))
    assert about.name == "transformers: Little DINO (dinov2_with_registers, cls)"
    assert about.terms.licence == "cc-by-nc-4.0" and about.terms.restricts
    assert len(about.source.digest) == 64
    vit = transformers_folder.about(TransformersSettings(folder=folders["vit"], licence="apache-2.0", name="Ours"))
    assert (vit.name, vit.terms.restricts, vit.terms.known) == ("transformers: Ours (vit, cls)", False, True)
    assert not transformers_folder.about(TransformersSettings(folder=folders["vit"])).terms.known


def test_a_known_model_is_known_by_the_heading_of_its_card(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["vit"], tmp_path / "vit")
    text = README.format(licence="other\nlicense_name: owkin", title="Model card for Phikon-v2")
    (tmp_path / "vit" / "README.md").write_text(text)
    about = transformers_folder.about(TransformersSettings(folder=tmp_path / "vit"))
    assert about.terms.licence == "owkin" and "non-commercial" in about.terms.reason


def remove(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def with_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoModel": "modeling.Strange"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling.py").write_text("raise SystemExit('this must not run')")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-50])


def of_words(folder: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=20, **sizes)).save_pretrained(folder)


def of_another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "pooling", "told"),
    [
        (remove("config.json"), "cls", "holds no config.json"),
        (remove("preprocessor_config.json"), "cls", "holds no preprocessor_config.json"),
        (remove("model.safetensors"), "cls", "holds no weights"),
        (pickled, "cls", "only pytorch_model.bin, which may hold code"),
        (with_code, "cls", "'strange': it wants code of its own to be run, which is never done"),
        (cut, "cls", "cannot read"),
        (of_words, "cls", "gives no vector for tiles"),
        (of_another_shape, "cls", "16 weights are missing"),
    ],
)
def test_a_folder_that_is_not_whole_says_what_it_lacks(
    folders: dict[str, Path], tmp_path: Path, change: Callable[[Path], None], pooling: Any, told: str
) -> None:
    shutil.copytree(folders["vit"], tmp_path / "vit")
    change(tmp_path / "vit")
    with pytest.raises(UserError, match=told):
        encode(TransformersSettings(folder=tmp_path / "vit", pooling=pooling), np.zeros((1, 16, 16, 3), np.uint8))


def test_code_beside_a_known_model_is_left_alone(
    folders: dict[str, Path], pixels_nhwc: np.ndarray, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders["vit"], tmp_path / "vit"))
    wanted = encode(TransformersSettings(folder=folder), pixels_nhwc)
    for name, kind in (("config", "AutoModel"), ("preprocessor_config", "AutoImageProcessor")):
        text = json.loads((folder / f"{name}.json").read_text()) | {"auto_map": {kind: "own.Own"}}
        (folder / f"{name}.json").write_text(json.dumps(text))
    (folder / "own.py").write_text("raise SystemExit('this must not run')")
    assert torch.equal(encode(TransformersSettings(folder=folder), pixels_nhwc), wanted)


def test_a_pooler_that_was_never_saved_is_not_made_up(tmp_path: Path, pixels_nhwc: np.ndarray) -> None:
    config = transformers.ViTConfig(intermediate_size=32, num_labels=4, **SIZES)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    assert encode(TransformersSettings(folder=tmp_path), pixels_nhwc).shape == (40, 16)
    with pytest.raises(UserError, match="2 weights are missing .*take pooling cls or mean"):
        encode(TransformersSettings(folder=tmp_path, pooling="pooler"), pixels_nhwc)


def test_a_network_without_class_token_says_so_and_gives_the_mean(tmp_path: Path, pixels_nhwc: np.ndarray) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no class token: set embedding.transformers.pooling to mean"):
        encode(TransformersSettings(folder=tmp_path), pixels_nhwc)
    mean_nd, pooler_nd = (
        encode(TransformersSettings(folder=tmp_path, pooling=p), pixels_nhwc) for p in ("mean", "pooler")
    )
    assert mean_nd.shape == (40, 12)
    torch.testing.assert_close(mean_nd, pooler_nd)


def test_of_a_network_for_pictures_and_text_the_pictures_half_is_taken(tmp_path: Path, pixels_nhwc: np.ndarray) -> None:
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config=text | {"vocab_size": 50}, vision_config=SIZES | {"intermediate_size": 32}
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path)
    assert encode(TransformersSettings(folder=tmp_path), pixels_nhwc).shape == (40, 16)


def test_reading_a_network_leaves_the_random_numbers_of_others_alone(
    vit: tuple[Any, Path], folders: dict[str, Path]
) -> None:
    before = torch.get_rng_state()
    timm_file.read(timm_file.about(given(vit[1])).source)
    transformers_folder.read(transformers_folder.about(TransformersSettings(folder=folders["vit"])).source)
    assert torch.equal(before, torch.get_rng_state())
