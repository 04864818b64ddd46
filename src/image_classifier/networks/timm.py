"""Any convolutional network for classification that timm has: https://github.com/huggingface/pytorch-image-models."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import hf_hub_download
from timm.models import group_parameters
from torch import Tensor, nn

from image_classifier.model.network import Network
from image_classifier.project.params import TimmParams
from image_classifier.system.errors import UserError


class TimmNetwork(Network):
    """Images are normalised as the pretrained weights expect it, whatever the training starts from."""

    layers_are_in = "body."

    def __init__(self, settings: TimmParams, num_classes: int) -> None:
        super().__init__(settings)
        self.name = settings.name
        self.body: Any  # timm's networks have no common type
        try:
            self.body = timm.create_model(settings.name, num_classes=num_classes)
        except RuntimeError:  # timm's error for a name, or for its end behind a dot, that it does not know
            known = get_close_matches(settings.name, [*timm.list_models(), *timm.list_pretrained()])
            near = f"such as {' | '.join(known)}" if known else "the names that `timm.list_models()` gives"
            raise UserError(f"model.name is {settings.name!r}, which timm does not know; allowed: {near}") from None
        config = self.body.pretrained_cfg
        self.own_colours = config["mean"], config["std"]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits

    def layers(self) -> list[list[nn.Parameter]]:
        by_depth = group_parameters(self.body, self.body.group_matcher(coarse=False))
        weights = dict(self.body.named_parameters())
        return [[weights[name] for name in by_depth[depth]] for depth in sorted(by_depth)]

    def gradcam_layers(self) -> dict[str, nn.Module]:
        """The last layer of each size of maps: `stride8` is that whose maps have an eighth of the image's side."""
        stages = getattr(self.body, "feature_info", [])
        return {f"stride{stage['reduction']}": self.body.get_submodule(stage["module"]) for stage in stages}

    def published_weights(self, folder: Path) -> Path:
        repository = self.body.pretrained_cfg.get("hf_hub_id")
        if not repository:
            raise UserError(
                f"train.start_from is pretrained, and timm has no weights for {self.name}: choose another "
                "model.name, random, or a file in weights/"
            )
        name = "model.safetensors"
        try:
            return Path(hf_hub_download(repository, name, local_dir=folder / self.body.pretrained_cfg["architecture"]))
        except Exception as error:  # many kinds, of several libraries
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(
                f"cannot fetch {name} of {repository} ({reason}): start it again to continue; or without a "
                f"network, copy that file to weights/{self.name}.safetensors, and set train.start_from to "
                f"{self.name}.safetensors"
            ) from None


make = TimmNetwork
