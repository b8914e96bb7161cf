"""Encoder and decoder against their equations written out, and the properties of each choice."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lookback import masks
from lookback.attention import ALIGNMENTS
from lookback.seq2seq import CELLS, Decoder, Encoder, Seq2Seq, shift_right

V, E, H, B, S, T = 9, 5, 6, 3, 7, 4
LENGTHS = torch.tensor([7, 4, 1])

CHOICES = [
    *({"attention": name} for name in (None, *ALIGNMENTS)),
    {"attention": None, "context": "once"},
    {"attention": "general", "context": "once"},
    {"attention": "additive", "context": "once"},
    {"attention": "additive", "order": "luong", "input_feeding": True},
    {"attention": "dot", "order": "bahdanau", "cell": "lstm"},
    {"attention": "local-p", "order": "luong", "input_feeding": True, "cell": "lstm", "layers": 2},
    {"attention": "general", "bidirectional": False, "cell": "rnn"},
]


def label(choice: dict) -> str:
    return "-".join(str(value) for value in choice.values())


def model(**choice) -> Seq2Seq:
    return Seq2Seq(V, V, **({"embedding": E, "hidden": H, "window": 2} | choice))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(0, V, (B, S)), torch.randint(0, V, (B, T))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_padded_source_is_encoded_as_it_would_be_alone(cell, bidirectional, layers):
    encoder = Encoder(V, hidden=H, cell=cell, bidirectional=bidirectional, layers=layers)
    source = torch.randint(0, V, (B, S))
    memory, final = encoder(source, LENGTHS)
    assert memory.shape == (B, S, H)
    assert len(final) == (2 if cell == "lstm" else 1)
    for b, length in enumerate(LENGTHS.tolist()):
        alone, last = encoder(source[b : b + 1, :length])
        torch.testing.assert_close(memory[b, :length], alone[0])
        assert (memory[b, length:] == 0).all()
        for mine, expected in zip(final, last, strict=True):
            assert mine.shape == (layers, B, H)
            torch.testing.assert_close(mine[:, b], expected[:, 0])


@pytest.mark.parametrize("lengths", [None, LENGTHS[:0]])
@pytest.mark.parametrize("cell", CELLS)
def test_a_batch_of_no_sources_has_no_states(cell, lengths):
    memory, final = Encoder(V, hidden=H, cell=cell)(torch.zeros(0, S, dtype=torch.int64), lengths)
    assert memory.shape == (0, S, H)
    assert {tuple(state.shape) for state in final} == {(1, 0, H)}


def test_the_final_state_is_the_last_of_the_forward_and_the_first_of_the_backward_reading():
    encoder = Encoder(V, hidden=H)
    memory, (h,) = encoder(torch.randint(0, V, (B, S)), LENGTHS)
    last = memory[torch.arange(B), LENGTHS - 1]
    torch.testing.assert_close(h[0, :, : H // 2], last[:, : H // 2])
    torch.testing.assert_close(h[0, :, H // 2 :], memory[:, 0, H // 2 :])


def cell_of(decoder: Decoder) -> nn.Module:
    """torch's single cell with the decoder's weights."""
    kinds = {"RNN_TANH": nn.RNNCell, "GRU": nn.GRUCell, "LSTM": nn.LSTMCell}
    cell = kinds[decoder.rnn.mode](decoder.rnn.input_size, decoder.rnn.hidden_size)
    state = decoder.rnn.state_dict()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in state.items()})
    return cell


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", ["additive", "general", "local-p"])
@pytest.mark.parametrize("order", ["bahdanau", "luong", "luong with feeding"])
def test_logits_and_weights_are_those_of_the_papers_equations(cell, attention, order):
    feeding = order == "luong with feeding"
    m = model(attention=attention, cell=cell, order=order.split()[0], input_feeding=feeding)
    source, target = batch()
    logits, weights = m(source, target, LENGTHS)

    memory, final = m.encoder(source, LENGTHS)
    mask = masks.padding(LENGTHS, S)
    d, step = m.decoder, cell_of(m.decoder)
    state = tuple(h[0] for h in final)
    fed = torch.zeros(B, H)
    for t in range(T):
        word = d.embedding(target[:, t])
        if order == "bahdanau":
            context, looked = d.attention(state[0][:, None], memory, mask, offset=t)
            word = torch.cat([word, context[:, 0]], -1)
        elif feeding:
            word = torch.cat([word, fed], -1)
        new = step(word, state if cell == "lstm" else state[0])
        state = new if cell == "lstm" else (new,)
        if order != "bahdanau":
            context, looked = d.attention(state[0][:, None], memory, mask, offset=t)
        fed = torch.tanh(torch.cat([context[:, 0], state[0]], -1) @ d.W_c.weight.mT)
        torch.testing.assert_close(logits[:, t], d.W_s(fed))
        torch.testing.assert_close(weights[:, t], looked[:, 0])


@pytest.mark.parametrize("context", ["each", "once"])
def test_without_attention_the_decoder_reads_the_final_state_and_nothing_else(context):
    m = model(attention=None, context=context)
    source, target = batch()
    logits, weights = m(source, target)
    assert weights is None

    _, (h,) = m.encoder(source)
    state, d, step = h[0], m.decoder, cell_of(m.decoder)
    for t in range(T):
        word = d.embedding(target[:, t])
        state_in = torch.cat([word, h[0]], -1) if context == "each" else word
        state = step(state_in, state)
        out = torch.cat([h[0], state], -1) if context == "each" else state
        expected = d.W_s(torch.tanh(out @ d.W_c.weight.mT))
        torch.testing.assert_close(logits[:, t], expected)


@pytest.mark.parametrize("choice", CHOICES, ids=label)
def test_reading_the_target_in_pieces_equals_reading_it_at_once(device, choice):
    m = model(**choice).to(device, torch.float64).eval()
    source, target = (x.to(device) for x in batch())
    logits, weights = m(source, target, LENGTHS.to(device))
    state = m.begin(source, LENGTHS.to(device))
    for t, piece in zip((0, 2, 3), target.split([1, 2, 1], 1), strict=True):
        torch.testing.assert_close(m.step(piece, state), logits[:, t])
        if weights is not None:
            torch.testing.assert_close(state.weights, weights[:, t])
    assert state.length == T


@pytest.mark.parametrize("choice", CHOICES, ids=label)
def test_a_batch_with_padding_equals_its_sentences_one_by_one(choice):
    m = model(**choice)
    source, target = batch()
    logits, weights = m(source, target, LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        alone, looked = m(source[b : b + 1, :length], target[b : b + 1])
        torch.testing.assert_close(logits[b], alone[0])
        if weights is not None:
            torch.testing.assert_close(weights[b, :, :length], looked[0])
            assert (weights[b, :, length:] == 0).all()


@pytest.mark.parametrize("choice", CHOICES, ids=label)
def test_rows_of_a_state_can_be_reordered_and_repeated(choice):
    m = model(**choice)
    source, target = batch()
    logits, _ = m(source, target, LENGTHS)
    state = m.begin(source, LENGTHS)
    m.step(target[:, :2], state)
    rows = torch.tensor([2, 0, 0, 1])
    state.reorder(rows)
    torch.testing.assert_close(m.step(target[rows, 2:3], state), logits[rows, 2])


@pytest.mark.parametrize("choice", CHOICES, ids=label)
def test_outputs_hang_on_the_source_and_never_on_a_later_target(choice):
    m = model(**choice)
    source, target = batch()
    base, _ = m(source, target)
    other, later = source.clone(), target.clone()
    other[:, 0] = (source[:, 0] + 1) % V
    later[:, 2] = (target[:, 2] + 1) % V
    assert (m(other, target)[0] - base).abs().amax((0, 2)).min() > 1e-6
    moved = (m(source, later)[0] - base).abs().amax((0, 2))
    assert (moved[:2] == 0).all()
    assert (moved[2:] > 1e-6).all()


@pytest.mark.parametrize("attention", ["general", "additive"])
def test_a_context_taken_once_is_that_of_the_first_step(attention):
    m = model(attention=attention, context="once")
    weights = m(*batch())[1]
    torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))
    fresh = model(attention=attention)
    fresh.load_state_dict(m.state_dict())
    assert (fresh(*batch())[1].diff(dim=1).abs() > 1e-6).any()


@pytest.mark.parametrize("choice", CHOICES, ids=label)
def test_every_parameter_receives_gradient(choice):
    m = model(**choice)
    logits, _ = m(torch.arange(V).expand(B, V), torch.arange(V).expand(B, V))
    logits.square().sum().backward()
    names = [n for n, p in m.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert names == []


def test_the_default_order_is_that_of_the_attentions_own_paper():
    assert model(attention="additive").decoder.order == "bahdanau"
    assert model(attention="general").decoder.order == "luong"


@pytest.mark.parametrize("choice", CHOICES[:4], ids=label)
def test_running_free_reads_its_own_tokens(choice):
    m = model(**choice)
    source, target = batch()
    free, _ = m(source, target, LENGTHS, forcing=0.0)
    own = torch.cat([target[:, :1], free.argmax(-1)[:, :-1]], 1)
    torch.testing.assert_close(free, m(source, own, LENGTHS)[0])
    nudged = target.clone()
    nudged[:, 1:] = (nudged[:, 1:] + 1) % V
    assert torch.equal(m(source, nudged, LENGTHS, forcing=0.0)[0], free)


def test_scheduled_sampling_mixes_both_at_the_chance_given():
    m = Seq2Seq(4, 4, embedding=2, hidden=4, cell="rnn")
    with torch.no_grad():  # always says 3; the target says 1: which was read shows in the state
        m.decoder.W_s.weight.zero_()
        m.decoder.W_s.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 9.0]))
        m.decoder.embedding.weight.zero_()
        m.decoder.embedding.weight[3, 0] = 5.0
    seen = []
    m.decoder.embedding.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    source, target = torch.zeros(400, 2, dtype=torch.int64), torch.ones(400, 6, dtype=torch.int64)
    m(source, target, forcing=0.7, generator=torch.Generator().manual_seed(3))
    read = torch.cat(seen, 1)
    assert (read[:, 0] == 1).all()
    share = float((read[:, 1:] == 1).float().mean())
    assert share == pytest.approx(0.7, abs=0.03)  # 2000 draws: a deviation of 0.010
    again = m(source, target, forcing=0.7, generator=torch.Generator().manual_seed(3))[0]
    assert torch.equal(torch.cat(seen[6:], 1), read)
    assert again.shape == (400, 6, 4)


def test_own_tokens_are_drawn_at_the_temperature_given():
    m = model()
    source, target = batch()
    seed = torch.Generator().manual_seed
    cold = m(source, target, forcing=0.0, temperature=1e-4, generator=seed(1))[0]
    torch.testing.assert_close(cold, m(source, target, forcing=0.0)[0])
    hot = [m(source, target, forcing=0.0, temperature=50.0, generator=seed(s))[0] for s in (1, 2)]
    assert not torch.allclose(*hot)
    again = m(source, target, forcing=0.0, temperature=50.0, generator=seed(1))[0]
    assert torch.equal(again, hot[0])


def test_vectors_take_the_place_of_source_tokens():
    m = Seq2Seq(None, V, input_width=3, hidden=H, attention="dot")
    logits, weights = m(torch.randn(B, S, 3), torch.randint(0, V, (B, T)), LENGTHS)
    assert logits.shape == (B, T, V)
    assert weights.shape == (B, T, S)


def test_dropout_acts_in_training_only():
    m = model(attention="additive", dropout=0.4, layers=2)
    source, target = batch()
    assert not torch.equal(m(source, target)[0], m(source, target)[0])
    m.eval()
    assert torch.equal(m(source, target)[0], m(source, target)[0])


def test_shifting_right_puts_bos_first_and_drops_the_last_token():
    target = torch.tensor([[5, 6, 7], [8, 2, 0]])
    assert shift_right(target, 1).tolist() == [[1, 5, 6], [1, 8, 2]]
    assert target.tolist() == [[5, 6, 7], [8, 2, 0]]


@pytest.mark.parametrize("attention", [None, "additive", "general"])
def test_a_tied_model_has_one_matrix_for_both_languages_and_the_output(attention):
    tied = model(attention=attention, embedding=H, tied=True).double().eval()
    parts = (tied.encoder.embedding, tied.decoder.embedding, tied.decoder.W_s)
    assert len({id(part.weight) for part in parts}) == 1
    # an untied twin with scaled copies of that matrix is the same function
    twin = model(attention=attention, embedding=H).double().eval()
    state = tied.state_dict()
    for name in ("encoder.embedding.weight", "decoder.embedding.weight"):
        state[name] = state[name] * H**0.5
    twin.load_state_dict(state)
    source, target = batch()
    wanted, found = twin(source, target, LENGTHS)[0], tied(source, target, LENGTHS)[0]
    torch.testing.assert_close(found, wanted)
    cotangent = torch.randn_like(found)
    found.backward(cotangent), wanted.backward(cotangent)
    parts = [twin.encoder.embedding, twin.decoder.embedding]
    whole = twin.decoder.W_s.weight.grad + sum(part.weight.grad for part in parts) * H**0.5
    torch.testing.assert_close(tied.decoder.W_s.weight.grad, whole)


def test_tied_weights_start_at_a_scale_that_suits_both_of_their_uses():
    torch.manual_seed(0)
    big = Seq2Seq(500, 500, embedding=64, hidden=64, tied=True)
    weight = big.decoder.embedding.weight.detach()
    assert float(weight.std()) == pytest.approx(1 / 8, rel=0.05)
    assert float((weight[:9] * big.encoder.scale).std()) == pytest.approx(1, rel=0.15)


SOURCE = torch.zeros(2, 4, dtype=torch.int64)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Seq2Seq(V, V, cell="tree"), "unknown cell 'tree'; choose one of rnn, gru, lstm"),
        (lambda: Seq2Seq(V, V, hidden=65), "65 features do not divide between 2 directions"),
        (lambda: Seq2Seq(V, V, hidden=0), "hidden 0"),
        (lambda: Seq2Seq(V, V, layers=0), "0 layers"),
        (lambda: Seq2Seq(V, V, dropout=1.0), r"\[0, 1\), got 1.0"),
        (lambda: Seq2Seq(V, 0), "the target needs at least 1 token .*, got 0 and 32$"),
        (lambda: Seq2Seq(0, V), "the source needs at least 1 token .*, got 0 and 32$"),
        (lambda: Seq2Seq(-1, V), "at least 1 token of at least 1 feature, got -1 and 32$"),
        (lambda: Seq2Seq(V, V, embedding=-1), "the source needs at least 1 token .* got 9 and -1$"),
        (
            lambda: Decoder(V, H, embedding=0),
            "at least 1 token of at least 1 feature, got 9 and 0$",
        ),
        (lambda: Seq2Seq(V, V, input_width=3), "either tokens .* got 9 and 3"),
        (lambda: Seq2Seq(None, V), "got None and None"),
        (lambda: Seq2Seq(V, V, attention="soft"), "unknown attention 'soft'"),
        (lambda: Seq2Seq(V, V, attention="dot", order="both"), "unknown order 'both'"),
        (lambda: Seq2Seq(V, V, context="never"), "unknown context 'never'"),
        (lambda: Seq2Seq(V, V, embedding=5, hidden=6, tied=True), "one width, got 5 and 6"),
        (lambda: Seq2Seq(V, 8, hidden=32, tied=True), "one vocabulary .* got 9 and 8"),
        (lambda: Seq2Seq(None, V, input_width=3, hidden=32, tied=True), "got None and 9"),
        (lambda: Seq2Seq(V, V, input_feeding=True), "got attention None"),
        (lambda: Seq2Seq(V, V, attention="additive", input_feeding=True), "order 'bahdanau'"),
        (lambda: model()(SOURCE.float(), SOURCE), "must be int64 or int32, got torch.float32"),
        (lambda: model()(SOURCE[0], SOURCE), "2 axes"),
        (lambda: model()(SOURCE[:, :0], SOURCE), "the sequence is empty"),
        (lambda: model()(SOURCE, SOURCE + V), "run from 9 to 9, the vocabulary has 9"),
        (lambda: model()(SOURCE, SOURCE[:1]), "2 sources but 1 targets"),
        (lambda: model()(SOURCE, SOURCE[0], forcing=0.5), r"2 axes \(B, T\), got \(4,\)"),
        (lambda: model()(SOURCE, SOURCE[:, :0], forcing=0.5), "it has 0 tokens"),
        (lambda: model()(SOURCE, SOURCE, torch.tensor([4, 0])), "at least 1 position, got 0"),
        (lambda: model()(SOURCE, SOURCE, torch.tensor([4, 5])), "0 to 4, the padded length"),
        (lambda: model()(SOURCE, SOURCE, torch.tensor([4])), r"2 sequences but .* \(1,\)"),
        (lambda: model()(SOURCE, SOURCE, forcing=1.5), "from 0 to 1, got 1.5"),
        (lambda: model()(SOURCE, SOURCE, temperature=-1.0), "cannot be negative, got -1.0"),
        (lambda: shift_right(SOURCE[0], 1), "2 axes"),
    ],
)
def test_a_model_names_what_does_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build()
