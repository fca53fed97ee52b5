"""Encoders of the run itself (the judge, the autoencoder), and the SqueezeNet that ships."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from stages import compute, models, store
from stages.contracts import UserError
from stages.encoders.contract import About, Encode, Source
from stages.features.licences import Terms, terms
from stages.images import Pixels

if TYPE_CHECKING:
    import torch

    from stages.classify.networks import Classifier

SQUEEZENET_PX = 64
"""Smaller tiles are enlarged to this side: below it nothing would be left of them after the network's poolings."""
OWN = "trained in this run from a random start on its own tiles; no licence of others applies"


def about_judge(folder: Path) -> About:
    """The judge in the folder of its stage."""
    path = folder / "colour"
    name = str(store.read_json(path / "network.json")["architecture"])
    return About(Source("judge", path, _digest(path)), f"judge ({name})", Terms(OWN, False, True, ""))


def about_autoencoder(folder: Path, latent: Literal["flat", "pooled"]) -> About:
    """The autoencoder in the folder of its stage."""
    path = folder / "vae"
    facts = store.read_json(folder / "facts.json") if (folder / "facts.json").exists() else {}
    source = Source("autoencoder", path, _digest(path), json.dumps({"latent": latent}))
    name = str(store.read_json(path / "config.json").get("_class_name", "of this run"))
    found = Terms(OWN, False, True, "") if facts.get("mode") == "train" else terms(facts.get("licence"))
    return About(source, f"autoencoder ({name})", found)


def about_squeezenet() -> About:
    """The SqueezeNet that ships."""
    path = models.squeezenet_file()
    name = "squeezenet (1.1, ImageNet weights of keras-squeezenet)"
    return About(Source("squeezenet", path, store.digest_file(path)), name, terms("MIT"))


def _digest(folder: Path) -> str:
    """Digest of the one safetensors file of a model folder (the first by name where there are more)."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"no weights (*.safetensors) in {folder.name}; run the stage that makes them again")
    return store.digest_file(files[0])


def read_judge(source: Source) -> Encode:
    """The layer before the last, and class probabilities; tiles are resized to what the judge was trained on."""
    from stages.classify.networks import build, normalise
    from stages.classify.protocol import resize

    network, facts = models.read_network(source.path, build)
    device = compute.device()
    judge = cast("Classifier", network.to(device))

    def encode(pixels_nhwc: Pixels) -> "dict[str, torch.Tensor]":
        small_nhwc = resize(pixels_nhwc, int(facts["size_px"]))
        img_bchw = normalise(small_nhwc, facts["mean"], facts["std"]).to(device)
        features_bd = judge.features(img_bchw)
        return {"features": features_bd, "probabilities": judge(img_bchw).softmax(dim=1)}

    return encode


def read_autoencoder(source: Source) -> Encode:
    """The latent as it is, or mean and standard deviation of every channel."""
    import torch

    from stages.diffusion.autoencoder import encode as to_latent

    device = compute.device()
    vae = models.read_vae(source.path).to(device)
    pooled = json.loads(source.options)["latent"] == "pooled"

    def encode(pixels_nhwc: Pixels) -> "dict[str, torch.Tensor]":
        img_bchw = torch.from_numpy(pixels_nhwc).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        z_bchw = to_latent(vae, img_bchw.to(device))
        if not pooled:
            return {"features": z_bchw.flatten(1)}
        return {"features": torch.cat([z_bchw.mean(dim=(2, 3)), z_bchw.std(dim=(2, 3), unbiased=False)], dim=1)}

    return encode


def read_squeezenet(source: Source) -> Encode:
    """The last feature map averaged over positions, 512 numbers."""
    import torch

    from stages.features.squeezenet import pooled_features

    device = compute.device()
    network = models.read_squeezenet().to(device)

    def encode(pixels_nhwc: Pixels) -> "dict[str, torch.Tensor]":
        img_bchw = torch.from_numpy(pixels_nhwc).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        size = max(SQUEEZENET_PX, pixels_nhwc.shape[1])
        return {"features": pooled_features(network, img_bchw.to(device), size)}

    return encode
