"""Models of ours and of the peers, of the same size and, where possible, the same function."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lookback.decoding import greedy
from lookback.transformer import Config, DecoderOnly, EncoderDecoder, count_parameters


@dataclass(frozen=True)
class Size:
    """Sizes of a decoder and of the batch it reads."""

    D: int
    H: int
    layers: int
    vocabulary: int
    B: int
    T: int

    def tokens(self, device: torch.device | str = "cpu") -> Tensor:
        source = torch.Generator().manual_seed(0)
        return torch.randint(self.vocabulary, (self.B, self.T), generator=source).to(device)


def decoder(size: Size, *, bias: bool = True, tied: bool = True, kernel: str = "sdpa"):
    """Ours."""
    config = Config(
        vocabulary=size.vocabulary,
        **{"D": size.D, "H": size.H, "layers": size.layers, "max_length": size.T},
        **{"positions": "learned", "bias": bias, "tied": tied, "kernel": kernel},
    )
    return DecoderOnly(config)


def gpt2(size: Size) -> nn.Module | None:
    """Hugging Face's GPT-2, random weights; as many parameters as :func:`decoder`."""
    if find_spec("transformers") is None:
        return None
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        **{"vocab_size": size.vocabulary, "n_positions": size.T, "n_embd": size.D},
        **{"n_layer": size.layers, "n_head": size.H, "activation_function": "gelu"},
        **{"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0},
        **{"bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0},
        attn_implementation="sdpa",
    )
    return GPT2LMHeadModel(config)


def x_transformer(size: Size) -> nn.Module | None:
    """The decoder of x-transformers, flash attention on; beside ``decoder(bias=False)``."""
    if find_spec("x_transformers") is None:
        return None
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(
        dim=size.D,
        depth=size.layers,
        heads=size.H,
        attn_dim_head=size.D // size.H,
        attn_flash=True,
        ff_no_bias=True,
    )
    return TransformerWrapper(
        num_tokens=size.vocabulary, max_seq_len=size.T, attn_layers=layers, tie_embedding=True
    )


def language_step(model: nn.Module, tokens: Tensor) -> Callable[[], None]:
    """Forward, cross-entropy of the next token, backward."""
    target = tokens.roll(-1, 1).flatten()

    def run() -> None:
        logits = model(tokens)
        logits = getattr(logits, "logits", logits)
        F.cross_entropy(logits.flatten(0, 1).float(), target).backward()
        model.zero_grad(set_to_none=True)

    return run


def in_float64(model: nn.Module) -> nn.Module:
    """The same model in float64, computed by the equation as it stands."""
    exact = copy.deepcopy(model).double()
    for part in exact.modules():
        if hasattr(part, "kernel"):
            part.kernel = "reference"
    return exact


def translators(D: int, H: int, layers: int) -> tuple[EncoderDecoder, nn.Transformer]:
    """An encoder–decoder of ours with the weights of torch's in both stacks."""
    config = Config(
        input_width=D,
        target_vocabulary=2,
        **{"D": D, "H": H, "layers": layers, "hidden": 4 * D, "activation": "relu"},
        **{"pre_norm": True, "positions": "none"},
    )
    ours = EncoderDecoder(config)
    theirs = nn.Transformer(
        D, H, layers, layers, 4 * D, dropout=0.0, batch_first=True, norm_first=True
    )
    ours.encoder.load_state_dict(theirs.encoder.state_dict())
    ours.decoder.load_state_dict(theirs.decoder.state_dict())
    return ours, theirs


@torch.no_grad()
def uncached(model: DecoderOnly, prompt: Tensor, steps: int) -> Tensor:
    """The likeliest tokens, with the whole sequence read again for each."""
    tokens = prompt
    for _ in range(steps):
        tokens = torch.cat([tokens, model(tokens)[:, -1].argmax(-1, keepdim=True)], 1)
    return tokens[:, prompt.shape[1] :]


def cached(model: DecoderOnly, prompt: Tensor, steps: int) -> Tensor:
    """The same tokens from a cache."""
    state = model.begin(capacity=prompt.shape[1] + steps)
    return greedy(model, state, prompt, steps=steps).tokens


def parameters(*models: nn.Module | None) -> list[int]:
    """Trainable numbers of each model that is there."""
    return [count_parameters(model) for model in models if model is not None]
