"""The shape of a base model, as far as memory and time depend on it. finetune/model/shape.py reads it off a model."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LinearMaps:
    """count equal tensors of one name, each holding `experts` matrices of outputs x inputs; a token uses `active`.

    name is the last part of the module's name, such as "q_proj"; of a fused expert tensor, "experts." and the
    parameter's name. A dense map has experts = active = 1.
    """

    name: str
    inputs: int
    outputs: int
    count: int
    experts: int = 1
    active: int = 1

    @property
    def matrix_parameters(self) -> int:
        """Numbers in one matrix, of which a dense map's tensor holds one."""
        return self.inputs * self.outputs

    @property
    def tensor_parameters(self) -> int:
        """Numbers in one of the tensors."""
        return self.matrix_parameters * self.experts

    @property
    def parameters(self) -> int:
        """Numbers in all of them."""
        return self.tensor_parameters * self.count

    @property
    def active_parameters(self) -> int:
        """Numbers that one token is multiplied with."""
        return self.inputs * self.outputs * self.active * self.count

    def adapter_tensors(self, rank: int) -> tuple[int, int]:
        """Numbers in A and in B of an adapter on one of the tensors; fused experts have a pair each, in one tensor."""
        return self.inputs * rank * self.experts, self.outputs * rank * self.experts


@dataclass(frozen=True)
class Activations:
    """Bytes per token of one layer in training.

    saved: what its forward keeps for backward. backward: the most that is there at once while it is computed again and
    gone back through, saved and gradients included. forward: the most that its forward needs where nothing is kept.
    """

    saved: float
    backward: float
    forward: float


@dataclass(frozen=True)
class LayerShape:
    """count layers that are alike.

    fast: with fused kernels for linear attention; plain: with the library's PyTorch code. They differ in layers of
    linear attention alone. attention_width: heads x (key size + value size) / 2, 0 without attention. window: tokens
    that attention looks back at most, None for all. state_flops: what linear attention computes per token in one
    forward pass, its projections left out.
    """

    kind: str
    count: int
    fast: Activations
    plain: Activations
    attention_width: int
    window: int | None
    state_flops: float


@dataclass(frozen=True)
class ModelShape:
    """A text model. other_parameters are norms, convolutions and biases; the embedding and the head are apart.

    cache_bytes: of keys and values per token when text is generated, in 16 bit. largest_layer: numbers in the largest
    decoder layer.
    """

    hidden: int
    vocabulary: int
    tied: bool
    maps: tuple[LinearMaps, ...]
    other_parameters: int
    layers: tuple[LayerShape, ...]
    cache_bytes: int
    largest_layer: int = 0

    @property
    def num_layers(self) -> int:
        """Layers of all kinds."""
        return sum(layer.count for layer in self.layers)

    @property
    def vocabulary_parameters(self) -> int:
        """Numbers in the embedding, and in the head, which is the same tensor where they are tied."""
        return self.vocabulary * self.hidden

    @property
    def map_parameters(self) -> int:
        """Numbers in the linear maps of the layers."""
        return sum(maps.parameters for maps in self.maps)

    @property
    def parameters(self) -> int:
        """All numbers of the text model."""
        copies = 1 if self.tied else 2
        return self.map_parameters + self.other_parameters + copies * self.vocabulary_parameters

    def adapted(self, targets: Sequence[str]) -> tuple[LinearMaps, ...]:
        """The maps that carry an adapter."""
        return tuple(maps for maps in self.maps if maps.name in targets)

    def adapter_parameters(self, targets: Sequence[str], rank: int) -> int:
        """Numbers that are trained."""
        return sum(sum(maps.adapter_tensors(rank)) * maps.count for maps in self.adapted(targets))
