"""What each family of Transformers promises: what it sees, how it steps, what it counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lookback.transformer import (
    ACTIVATIONS,
    NORMS,
    POSITIONS,
    Config,
    DecoderOnly,
    Embedding,
    EncoderDecoder,
    EncoderOnly,
    Stack,
    count_parameters,
)

SMALL = Config(vocabulary=11, D=12, H=3, layers=2, hidden=20, max_length=32)

VARIETY = [
    *(replace(SMALL, positions=p, norm=n) for p, n in zip(POSITIONS, NORMS * 3, strict=False)),
    *(replace(SMALL, activation=a, pre_norm=False) for a in ACTIVATIONS),
    replace(SMALL, positions="alibi", kernel="reference", kv_heads=1, qk_norm=True, tied=True),
]


def label(config: Config) -> str:
    return f"{config.positions}-{config.norm}-{config.activation}-{config.kv_heads}"


@pytest.mark.parametrize("config", VARIETY, ids=label)
def test_a_decoder_never_looks_ahead_and_does_look_back(device, config):
    model = DecoderOnly(config).to(device)
    tokens = torch.randint(0, 11, (2, 8), device=device)
    other = tokens.clone()
    other[:, 5] = (tokens[:, 5] + 1) % 11
    before, after = model(tokens), model(other)
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert (after[:, 5:] - before[:, 5:]).abs().amax((0, 2)).min() > 1e-5


@pytest.mark.parametrize("config", VARIETY, ids=label)
def test_one_token_at_a_time_through_the_cache_equals_all_at_once(device, config):
    model = DecoderOnly(config).to(device, torch.float64).eval()
    tokens = torch.randint(0, 11, (2, 9), device=device)
    whole = model(tokens)
    state = model.begin(capacity=9)
    for end, piece in zip((4, 5, 6, 9), tokens.split([4, 1, 1, 3], 1), strict=True):
        torch.testing.assert_close(model.step(piece, state), whole[:, end - 1])
    state.crop(5)
    state.reorder(torch.tensor([1, 0, 1], device=device))
    again = model.step(tokens[[1, 0, 1], 5:7], state)
    torch.testing.assert_close(again, whole[[1, 0, 1], 6])


@pytest.mark.parametrize("config", VARIETY, ids=label)
def test_a_translator_steps_as_it_trains_whatever_the_padding(device, config):
    model = EncoderDecoder(config).to(device, torch.float64).eval()
    source = torch.randint(0, 11, (2, 6), device=device)
    target = torch.randint(0, 11, (2, 5), device=device)
    lengths = torch.tensor([6, 4], device=device)
    whole = model(source, target, lengths)
    noisy = source.clone()
    noisy[1, 4:] = (noisy[1, 4:] + 3) % 11
    torch.testing.assert_close(model(noisy, target, lengths), whole)
    alone = model(source[1:, :4], target[1:])
    torch.testing.assert_close(alone, whole[1:])

    state = model.begin(source, lengths, capacity=5)
    state.reorder(torch.tensor([1, 0, 0], device=device))
    for t in range(5):
        logits = model.step(target[[1, 0, 0], t : t + 1], state)
        torch.testing.assert_close(logits, whole[[1, 0, 0], t])


def test_a_translator_reads_its_source_and_no_future_target():
    model = EncoderDecoder(SMALL)
    source, target = torch.randint(0, 11, (1, 6)), torch.randint(0, 11, (1, 5))
    moved_source, moved_target = source.clone(), target.clone()
    moved_source[0, 3] = (source[0, 3] + 1) % 11
    moved_target[0, 3] = (target[0, 3] + 1) % 11
    base = model(source, target)
    by_source = (model(moved_source, target) - base).abs().amax((0, 2))
    by_target = (model(source, moved_target) - base).abs().amax((0, 2))
    assert (by_source > 1e-5).all()
    assert (by_target[:3] < 1e-6).all()
    assert (by_target[3:] > 1e-5).all()


@pytest.mark.parametrize("pool", ["none", "mean", "first"])
def test_an_encoder_sees_both_sides_and_no_padding(pool):
    model = EncoderOnly(SMALL, classes=4, pool=pool)
    tokens, lengths = torch.randint(0, 11, (2, 6)), torch.tensor([6, 4])
    base = model(tokens, lengths)
    assert base.shape == ((2, 6, 4) if pool == "none" else (2, 4))
    noisy = tokens.clone()
    noisy[1, 4:] = (noisy[1, 4:] + 1) % 11
    real = (1, slice(4)) if pool == "none" else 1
    torch.testing.assert_close(model(noisy, lengths)[real], base[real])
    alone = model(tokens[1:, :4])[0]
    torch.testing.assert_close(alone, base[real])
    noisy = tokens.clone()
    noisy[0, 5] = (noisy[0, 5] + 1) % 11
    first = (0, 0) if pool == "none" else 0
    assert (model(noisy, lengths)[first] - base[first]).abs().max() > 1e-5


def test_without_positions_an_encoder_is_permutation_equivariant_and_with_them_it_is_not():
    tokens, order = torch.randint(0, 11, (1, 7)), torch.tensor([3, 1, 6, 0, 2, 5, 4])
    for positions in POSITIONS:
        model = EncoderOnly(replace(SMALL, positions=positions))
        gap = (model(tokens)[:, order] - model(tokens[:, order])).abs().max()
        assert (gap < 1e-5) == (positions == "none"), positions


def test_vectors_take_the_place_of_tokens():
    config = Config(input_width=5, target_vocabulary=7, D=12, H=3)
    frames = torch.randn(2, 6, 5)
    assert EncoderOnly(config, classes=3, pool="mean")(frames).shape == (2, 3)
    assert EncoderDecoder(config)(frames, torch.randint(0, 7, (2, 4))).shape == (2, 4, 7)
    embedded = Embedding(replace(config, positions="none"), None)
    torch.testing.assert_close(embedded(frames), embedded.vectors(frames))


@pytest.mark.parametrize("config", VARIETY[:3], ids=label)
def test_maps_are_the_weights_of_every_block(config):
    model = EncoderDecoder(config)
    source, target = torch.randint(0, 11, (2, 6)), torch.randint(0, 11, (2, 4))
    found = model.maps(source, target, torch.tensor([6, 3]))
    assert len(found) == 2
    for own, across in found:
        torch.testing.assert_close(own.sum(-1), torch.ones(2, 3, 4))
        torch.testing.assert_close(across.sum(-1), torch.ones(2, 3, 4))
        assert (own.triu(1) == 0).all()
        assert (across[1, ..., 3:] == 0).all()
    language, tagger = DecoderOnly(config), EncoderOnly(config)
    assert all((m.triu(1) == 0).all() for m in language.maps(target))
    assert all((m > 0).all() for m in tagger.maps(target))


def test_the_second_blocks_map_is_read_off_the_first_blocks_output():
    stack = Stack(replace(SMALL, positions="none"), cross=True)
    x, source = torch.randn(1, 4, 12), torch.randn(1, 5, 12)
    first, second = stack.layers
    y = first(x, source=source)
    own = second.self_attn.weights(second.norm1(y))
    after = y + second.self_attn(second.norm1(y))
    across = second.multihead_attn.weights(second.norm2(after), source)
    torch.testing.assert_close(stack.maps(x, source=source)[1], (own, across))


def test_tied_weights_are_one_tensor_counted_once():
    free, tied = (EncoderDecoder(replace(SMALL, tied=t)) for t in (False, True))
    assert count_parameters(free) - count_parameters(tied) == 2 * 11 * 12
    assert tied.head.weight is tied.source_embedding.tokens.weight
    two = EncoderDecoder(replace(SMALL, tied=True, target_vocabulary=13))
    assert two.head.weight is two.target_embedding.tokens.weight
    assert two.head.weight is not two.source_embedding.tokens.weight
    two.head.weight.requires_grad_(False)
    assert count_parameters(two) == count_parameters(free) - 2 * 11 * 12


def test_the_parameters_of_a_decoder_are_those_of_the_formula():
    V, D, hidden, layers = 11, 12, 20, 2
    attention = 4 * D * D + 4 * D
    feed_forward = 2 * D * hidden + hidden + D
    expected = 2 * V * D + layers * (attention + feed_forward + 2 * 2 * D) + 2 * D
    assert count_parameters(DecoderOnly(SMALL)) == expected


def test_dropout_acts_in_training_only():
    model = DecoderOnly(replace(SMALL, dropout=0.3))
    tokens = torch.randint(0, 11, (1, 6))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


def test_every_parameter_receives_gradient():
    model = EncoderDecoder(
        replace(SMALL, positions="learned", activation="swiglu", qk_norm=True, kv_heads=1)
    )
    model(torch.randint(0, 11, (2, 32)), torch.randint(0, 11, (2, 32))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


TOKENS = torch.zeros(2, 4, dtype=torch.int64)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EncoderOnly(Config()), "needs a vocabulary"),
        (lambda: EncoderOnly(Config(input_width=3)), "at least 1 class, got None"),
        (lambda: EncoderOnly(SMALL, pool="max"), "unknown pool 'max'"),
        (
            lambda: EncoderOnly(replace(SMALL, tied=True), classes=3),
            "3 outputs .* of 11",
        ),
        (lambda: DecoderOnly(Config(input_width=3)), "give the config a vocabulary"),
        (lambda: EncoderDecoder(Config(input_width=3)), "give the config a target_vocabulary"),
        (lambda: DecoderOnly(SMALL)(TOKENS.float()), "must be int64 or int32, got torch.float32"),
        (lambda: DecoderOnly(SMALL)(TOKENS[0]), r"2 axes \(B, T\), got \(4,\)"),
        (lambda: DecoderOnly(SMALL)(TOKENS[:, :0]), "the sequence is empty"),
        (lambda: DecoderOnly(SMALL)(TOKENS + 11), "run from 11 to 11, the vocabulary has 11"),
        (lambda: DecoderOnly(SMALL)(TOKENS - 1), "run from -1 to -1"),
        (
            lambda: DecoderOnly(replace(SMALL, positions="learned", max_length=3))(TOKENS),
            "0 to 3 asked for, but only 0 to 2",
        ),
        (lambda: EncoderOnly(SMALL)(TOKENS, torch.tensor([4])), r"2 sequences but .* \(1,\)"),
        (lambda: EncoderOnly(SMALL)(TOKENS, torch.tensor([4, 0])), "at least 1 position, got 0"),
        (lambda: EncoderDecoder(SMALL)(TOKENS, TOKENS[:1]), "2 sources but 1 targets"),
        (
            lambda: EncoderOnly(Config(input_width=3), classes=2)(torch.zeros(2, 4, 5)),
            r"vectors need shape \(B, T, 3\), got \(2, 4, 5\)",
        ),
        (
            lambda: EncoderOnly(Config(input_width=3), classes=2)(torch.zeros(2, 4, 3).long()),
            "vectors must be floating point",
        ),
        (
            lambda: EncoderOnly(Config(input_width=3), classes=2)(torch.zeros(2, 0, 3)),
            "the sequence is empty",
        ),
        (
            lambda: DecoderOnly(SMALL).eval().step(TOKENS, DecoderOnly(SMALL).begin(capacity=3)),
            "room for 3 tokens",
        ),
    ],
)
def test_a_family_names_what_does_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build()
