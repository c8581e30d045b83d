"""Pixels -> image tokens: OpenAI's CLIP ViT for the published weights, a small convolutional ViT for our own."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from clip4str_doctr.config import ClipImageTowerConfig, ConvImageTowerConfig, ImageTowerConfig
from clip4str_doctr.modeling.layers import Attention, Block, plain_attention
from clip4str_doctr.modeling.linear import Linear, linear, makes_graph, replace_linear_layers

__all__ = ["ClipImageTower", "ConvImageTower", "ImageTower", "build_image_tower"]


def _check_pixels(pixels: torch.Tensor, image_size: tuple[int, int]) -> None:
    # In a graph sizes are symbols, which have no truth value yet.
    if torch.onnx.is_in_onnx_export():
        return
    if pixels.ndim != 4 or pixels.shape[1:] != (3, *image_size):
        raise ValueError(
            f"pixels must be (N, 3, {image_size[0]}, {image_size[1]}), got {tuple(pixels.shape)}; "
            "use the model's Preprocess"
        )


def _in_parts(read: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor, at_once: int) -> torch.Tensor:
    """Tokens of all pictures, computed for `at_once` of them or fewer at a time where that is quicker: on a CPU, where
    what lies between the layers of a larger batch leaves its caches, and takes memory. Not where a graph is made."""
    count = pixels.shape[0]
    if pixels.device.type != "cpu" or torch.is_grad_enabled() or makes_graph() or count <= at_once:
        return read(pixels)
    return torch.cat([read(part) for part in pixels.chunk(-(-count // at_once))])


class _ClipAttention(Attention):
    """What open_clip asks of torch.nn.MultiheadAttention, with its parameters, whose own products are MKL's."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        if not attention.batch_first:
            raise RuntimeError("this open_clip_torch hands attention (L, N, d); type: pip install -U open_clip_torch")
        with torch.device("meta"):
            super().__init__(attention.embed_dim, attention.num_heads)
        self.load_state_dict(attention.state_dict(), assign=True)

    def forward(  # type: ignore[override]  # the signature of torch.nn.MultiheadAttention
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: object
    ) -> tuple[torch.Tensor, None]:
        """(N, L, d) thrice the same -> (N, L, d), None. Neither mask nor weights: no token is hidden from another."""
        joined = linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = (self._split(one) for one in joined.chunk(3, dim=-1))
        if query.device.type == "cpu" and not torch.is_grad_enabled() and not makes_graph():
            # In bfloat16 they take half of the fused kernel's time, in float32 no more than all of it.
            mixed = plain_attention(q, k, v)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None


def _is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


class _ClipMLP(nn.Sequential):
    """open_clip's linear layer, QuickGELU and linear layer, with as few passes over what is widest as can be."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, L, d) -> (N, L, d)."""
        first, _, last = self
        # Quantisers put layers of their own here, pruning and calibration hooks.
        if (
            torch.is_grad_enabled()
            or not isinstance(first, Linear)
            or not isinstance(last, Linear)
            or any(map(_is_hooked, self))
        ):
            out: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call]  # torch ships it so
            return out
        # QuickGELU, h sigmoid(1.702 h), is silu(1.702 h) / 1.702, which can be written where h was: fresh memory of
        # that size costs a CPU nearly a tenth of the tower's time.
        hidden = F.silu(linear(x * 1.702, first.weight, first.bias * 1.702), inplace=True)
        return linear(hidden, last.weight, last.bias * 1.702).div_(1.702)


class ClipImageTower(nn.Module):
    """CLIP's vision transformer, keeping all tokens (after arXiv:2305.14014, which reads characters off them)."""

    def __init__(self, config: ClipImageTowerConfig) -> None:
        super().__init__()
        # Imported here: open_clip takes seconds, and the tiny model does without it.
        from open_clip.transformer import QuickGELU, VisionTransformer

        self.image_size = config.image_size
        self.visual = VisionTransformer(
            image_size=config.image_size,
            patch_size=config.patch_size,
            width=config.width,
            layers=config.layers,
            heads=config.width // 64,
            mlp_ratio=4.0,
            output_dim=config.output_dim,
            act_layer=QuickGELU,
            # "none": ln_post and the projection are applied to every token, and no token is pooled away.
            pool_type="none",
        )
        for block in self.visual.transformer.resblocks:
            block.attn = _ClipAttention(block.attn)
            block.mlp = _ClipMLP(OrderedDict(block.mlp.named_children()))
        replace_linear_layers(self.visual.transformer)

    @property
    def layers(self) -> nn.Module:
        """The transformer, between embedding and projection."""
        layers: nn.Module = self.visual.transformer
        return layers

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels: (N, 3, H, W) float, normalised -> (N, 1 + patches, output_dim), class token first.

        Raises ValueError for another size. After arXiv:2103.00020.
        """
        _check_pixels(pixels, self.image_size)
        return _in_parts(self.visual, pixels, at_once=4)


class ConvImageTower(nn.Module):
    """Two 3 x 3 convolutions per halving, then a transformer over the grid.

    Learns from scratch faster than plain patches, and keeps the small marks over Vietnamese letters apart.
    """

    def __init__(self, config: ConvImageTowerConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        stride = 2 ** len(config.stem_widths)
        height, width = config.image_size
        if height % stride or width % stride:
            raise ValueError(
                f"image_size must be a multiple of {stride} (one halving per stem convolution), got {config.image_size}"
            )
        stem: list[nn.Module] = []
        channels = 3
        for stem_width in config.stem_widths:
            stem += [*_convolution(channels, stem_width, stride=2), *_convolution(stem_width, stem_width, stride=1)]
            channels = stem_width
        # The last stage is as coarse as the tokens, which the transformer mixes anyway: one convolution is enough.
        self.stem = nn.Sequential(*stem[:-3], nn.Conv2d(channels, config.width, 1))
        self.grid = (height // stride, width // stride)
        self.positions = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1], config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.proj = Linear(config.width, config.output_dim)
        nn.init.trunc_normal_(self.positions, std=0.02)

    @property
    def layers(self) -> nn.Module:
        """The transformer, between convolutions and projection."""
        return self.blocks

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels: (N, 3, H, W) float, normalised -> (N, rows * columns, output_dim), row by row.

        Raises ValueError for another size.
        """
        _check_pixels(pixels, self.image_size)
        # In training, norms take their statistics from the whole batch.
        return self._tokens(pixels) if self.training else _in_parts(self._tokens, pixels, at_once=16)

    def _tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        # Channels last: the convolutions run a third faster on CPUs.
        grid = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        tokens = grid.flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        projected: torch.Tensor = self.proj(self.norm(tokens))
        return projected


def _convolution(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


ImageTower = ClipImageTower | ConvImageTower


def build_image_tower(config: ImageTowerConfig) -> ImageTower:
    """The tower a config describes, with random weights."""
    if isinstance(config, ClipImageTowerConfig):
        return ClipImageTower(config)
    return ConvImageTower(config)
