"""Known answers to exercise 06: wrong ones with what each must be told, right ones to accept."""

from proctor.answers import Misconception, RightAnswer

_NORM = (
    Misconception(
        name="variance over D minus one",
        task="LayerNorm",
        fails="LayerNorm__by_hand",
        told="divides by D − 1",
        edit=(
            (
                "centred.square().mean(-1, keepdim=True)",
                "wide.var(-1, keepdim=True)",
            ),
        ),
    ),
    Misconception(
        name="eps outside the root",
        task="LayerNorm",
        fails="LayerNorm__by_hand",
        told="eps was added to the root",
        edit=(("(variance + self.eps).sqrt()", "(variance.sqrt() + self.eps)"),),
    ),
    Misconception(
        name="the mean loses its axis",
        task="LayerNorm",
        fails="LayerNorm__by_hand",
        told="keepdim=True leaves an axis",
        edit=(("wide.mean(-1, keepdim=True)", "wide.mean(-1)"),),
    ),
    Misconception(
        name="eps fixed",
        task="LayerNorm",
        fails="LayerNorm__by_hand",
        told="eps is not the one that was given",
        edit=(("variance + self.eps", "variance + 1e-5"),),
    ),
    Misconception(
        name="divided by the variance",
        task="LayerNorm",
        fails="LayerNorm__by_hand",
        told="divided by the variance, not by its root",
        edit=(("(variance + self.eps).sqrt()", "(variance + self.eps)"),),
    ),
    Misconception(
        name="an RMS norm",
        task="LayerNorm",
        fails="LayerNorm__by_hand",
        told="the mean was not taken off",
        edit=(("wide - wide.mean(-1, keepdim=True)", "wide"),),
    ),
    Misconception(
        name="norm over the batch",
        task="LayerNorm",
        fails="LayerNorm__by_hand",
        told="run over the batch",
        edit=(
            ("wide.mean(-1, keepdim=True)", "wide.mean(0, keepdim=True)"),
            ("square().mean(-1, keepdim=True)", "square().mean(0, keepdim=True)"),
        ),
    ),
    Misconception(
        name="norm over all tokens of a sequence",
        task="LayerNorm",
        fails="LayerNorm__own_numbers",
        told="the tokens behind them changed",
        edit=(
            (
                "wide.mean(-1, keepdim=True)",
                "wide.mean(tuple(range(wide.ndim))[-2:], keepdim=True)",
            ),
            (
                "square().mean(-1, keepdim=True)",
                "square().mean(tuple(range(wide.ndim))[-2:], keepdim=True)",
            ),
        ),
    ),
    Misconception(
        name="axis one holds the features",
        task="LayerNorm",
        fails="LayerNorm__own_numbers",
        told="axis",
        edit=(
            ("wide.mean(-1, keepdim=True)", "wide.mean(1, keepdim=True)"),
            ("square().mean(-1, keepdim=True)", "square().mean(1, keepdim=True)"),
        ),
    ),
    Misconception(
        name="bias before weight",
        task="LayerNorm",
        fails="LayerNorm__by_hand",
        told="before the weight was multiplied",
        edit=(
            (
                "centred / (variance + self.eps).sqrt() * self.weight + self.bias",
                "(centred / (variance + self.eps).sqrt() + self.bias) * self.weight",
            ),
        ),
    ),
    Misconception(
        name="weight and bias made but not used",
        task="LayerNorm",
        fails="LayerNorm__by_hand",
        told="weight and bias are not used",
        edit=((".sqrt() * self.weight + self.bias", ".sqrt()"),),
    ),
    Misconception(
        name="plain tensors for parameters",
        task="LayerNorm",
        fails="LayerNorm__parameters",
        told="is self.weight an nn.Parameter?",
        edit=(
            ("nn.Parameter(torch.ones(D))", "torch.ones(D)"),
            ("nn.Parameter(torch.zeros(D))", "torch.zeros(D)"),
        ),
    ),
    Misconception(
        name="buffers for parameters",
        task="LayerNorm",
        fails="LayerNorm__parameters",
        told="not a buffer",
        edit=(
            (
                "self.weight = nn.Parameter(torch.ones(D))",
                'self.register_buffer("weight", torch.ones(D))',
            ),
        ),
    ),
    Misconception(
        name="weights drawn at random",
        task="LayerNorm",
        fails="LayerNorm__parameters",
        told="the weight starts at 1",
        edit=(("torch.ones(D)", "torch.randn(D)"),),
    ),
    Misconception(
        name="squares in float16",
        task="LayerNorm",
        fails="LayerNorm__formats",
        told="300² overflows float16",
        edit=(("wide = x.to(torch.promote_types(x.dtype, torch.float32))", "wide = x"),),
    ),
    Misconception(
        name="float32 comes back",
        task="LayerNorm",
        fails="LayerNorm__formats",
        told="has dtype torch.float32 but should have torch.bfloat16",
        edit=(("return y.to(x.dtype)", "return y"),),
    ),
    Misconception(
        name="mean of squares less square of the mean",
        task="LayerNorm",
        fails="LayerNorm__formats",
        told="the mean comes off before squares are taken",
        edit=(
            (
                "centred.square().mean(-1, keepdim=True)",
                "wide.square().mean(-1, keepdim=True) - wide.mean(-1, keepdim=True).square()",
            ),
        ),
    ),
    Misconception(
        name="statistics detached",
        task="LayerNorm",
        fails="LayerNorm__gradient",
        told="mean and variance depend on x too",
        edit=(("centred.square()", "centred.detach().square()"),),
    ),
)

_ENCODER = (
    Misconception(
        name="post-norm for pre-norm",
        task="EncoderBlock",
        fails="EncoderBlock__identity",
        told="x itself was normed: post-norm",
        edit=(
            (
                "z = self.norm1(x)\n        x = x + self.self_attn(z, mask=mask)",
                "x = self.norm1(x + self.self_attn(x, mask=mask))",
            ),
            (
                "z = self.norm2(x)\n        return x + self.linear2(self.linear1(z).relu())",
                "return self.norm2(x + self.linear2(self.linear1(x).relu()))",
            ),
        ),
    ),
    Misconception(
        name="the residual carries the norm",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="the residual carries norm(x)",
        edit=(
            ("z = self.norm1(x)\n        x = x +", "z = self.norm1(x)\n        x = z +"),
            ("return x + self.linear2", "return z + self.linear2"),
        ),
    ),
    Misconception(
        name="no residuals",
        task="EncoderBlock",
        fails="EncoderBlock__identity",
        told="the residual is missing",
        edit=(("x = x + self.self_attn", "x = self.self_attn"), ("return x + self", "return self")),
    ),
    Misconception(
        name="called as torch's layer is",
        task="EncoderBlock",
        fails="EncoderBlock__identity",
        told="self-attention takes one tensor",
        edit=(("self.self_attn(z, mask=mask)", "self.self_attn(z, z, z)"),),
    ),
    Misconception(
        name="no residual around attention",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="the residual around attention is missing",
        edit=(("x = x + self.self_attn", "x = self.self_attn"),),
    ),
    Misconception(
        name="no residual around the feed-forward layer",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="the residual around the feed-forward layer is missing",
        edit=(("return x + self.linear2", "return self.linear2"),),
    ),
    Misconception(
        name="norm behind the sublayer",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="the norms stand behind the sublayers",
        edit=(
            (
                "z = self.norm1(x)\n        x = x + self.self_attn(z, mask=mask)",
                "x = x + self.norm1(self.self_attn(x, mask=mask))",
            ),
            (
                "z = self.norm2(x)\n        return x + self.linear2(self.linear1(z).relu())",
                "return x + self.norm2(self.linear2(self.linear1(x).relu()))",
            ),
        ),
    ),
    Misconception(
        name="two linear maps in a row",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="ReLU is missing between",
        edit=(("self.linear1(z).relu()", "self.linear1(z)"),),
    ),
    Misconception(
        name="ReLU on the way out as well",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="there is a ReLU behind linear2 as well",
        edit=(("self.linear1(z).relu())", "self.linear1(z).relu()).relu()"),),
    ),
    Misconception(
        name="GELU for ReLU",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="GELU stands where ReLU is asked",
        edit=(("self.linear1(z).relu()", "nn.functional.gelu(self.linear1(z))"),),
    ),
    Misconception(
        name="one norm for both sublayers",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="norm1 serves both sublayers",
        edit=(("z = self.norm2(x)", "z = self.norm1(x)"),),
    ),
    Misconception(
        name="two names for one norm",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="norm1 and norm2 are two layers",
        edit=(
            (
                "self.norm1, self.norm2 = LayerNorm(D), LayerNorm(D)",
                "self.norm1 = self.norm2 = LayerNorm(D)",
            ),
        ),
    ),
    Misconception(
        name="x changed in place",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="changed its argument x in place",
        edit=(("x = x + self.self_attn", "x += self.self_attn"),),
    ),
    Misconception(
        name="the feed-forward layer reads what attention read",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="read the same x",
        edit=(
            ("z = self.norm1(x)", "z, second = self.norm1(x), self.norm2(x)"),
            ("z = self.norm2(x)", "z = second"),
        ),
    ),
    Misconception(
        name="the second norm forgotten",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="nothing is normed before the feed-forward layer",
        edit=(("z = self.norm2(x)", "z = x"),),
    ),
    Misconception(
        name="the first residual again",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="the second residual adds the block's input",
        edit=(
            ("z = self.norm1(x)", "start = x\n        z = self.norm1(x)"),
            ("return x + self", "return start + self"),
        ),
    ),
    Misconception(
        name="causal without being asked",
        task="EncoderBlock",
        fails="EncoderBlock__by_reference",
        told="a causal mask that nobody asked for",
        edit=(("(z, mask=mask)", "(z, mask=mask, causal=True)"),),
    ),
    Misconception(
        name="the mask is not handed on",
        task="EncoderBlock",
        fails="EncoderBlock__padding",
        told="is the mask handed on?",
        edit=(("(z, mask=mask)", "(z)"),),
    ),
    Misconception(
        name="the mask taken for the source",
        task="EncoderBlock",
        fails="EncoderBlock__padding",
        told="your code stopped on x (3, 6, 8) in float64",
        edit=(("(z, mask=mask)", "(z, mask)"),),
    ),
    Misconception(
        name="hidden width four times D",
        task="EncoderBlock",
        fails="EncoderBlock__parameters",
        told="linear1 maps D to hidden",
        edit=(
            ("nn.Linear(D, hidden)", "nn.Linear(D, 4 * D)"),
            ("nn.Linear(hidden, D)", "nn.Linear(4 * D, D)"),
        ),
    ),
    Misconception(
        name="the feed-forward layer as one part",
        task="EncoderBlock",
        fails="EncoderBlock__parameters",
        told="the block has no linear1.weight",
        edit=(
            ("self.linear1 = nn.Linear(D, hidden)\n", ""),
            (
                "        self.linear2 = nn.Linear(hidden, D)",
                "self.ffn = nn.Sequential(nn.Linear(D, hidden), nn.ReLU(), nn.Linear(hidden, D))",
            ),
            ("self.linear2(self.linear1(z).relu())", "self.ffn(z)"),
        ),
    ),
    Misconception(
        name="a dropout of its own",
        task="EncoderBlock",
        fails="EncoderBlock__padding",
        told="nothing is random",
        edit=(("self.linear1(z).relu()", "nn.functional.dropout(self.linear1(z).relu(), 0.1)"),),
    ),
    Misconception(
        name="attention detached",
        task="EncoderBlock",
        fails="EncoderBlock__gradient",
        told="let torch follow every step",
        edit=(("z = self.norm1(x)", "z = self.norm1(x).detach()"),),
    ),
)

_DECODER = (
    Misconception(
        name="self-attention sees the future",
        task="DecoderBlock",
        fails="DecoderBlock__future",
        told="self-attention sees the future",
        edit=(("(z, causal=True)", "(z)"),),
    ),
    Misconception(
        name="a token may not see itself",
        task="DecoderBlock",
        fails="DecoderBlock__by_reference",
        told="a position does not see itself",
        edit=(
            (
                "(z, causal=True)",
                "(z, mask=torch.ones(x.shape[1], x.shape[1]).tril(-1).bool())",
            ),
        ),
    ),
    Misconception(
        name="causal mask inverted",
        task="DecoderBlock",
        fails="DecoderBlock__future",
        told="is the mask off by one or inverted",
        edit=(
            (
                "(z, causal=True)",
                "(z, mask=torch.ones(x.shape[1], x.shape[1]).triu().bool())",
            ),
        ),
    ),
    Misconception(
        name="cross-attention reads its own sequence",
        task="DecoderBlock",
        fails="DecoderBlock__source",
        told="does cross-attention read its own sequence",
        edit=(("multihead_attn(z, source, mask=source_mask)", "multihead_attn(z)"),),
    ),
    Misconception(
        name="causal mask on the source",
        task="DecoderBlock",
        fails="DecoderBlock__by_reference",
        told="there is a causal mask on cross-attention",
        edit=(("source, mask=source_mask)", "source, mask=source_mask, causal=True)"),),
    ),
    Misconception(
        name="the source normed again",
        task="DecoderBlock",
        fails="DecoderBlock__by_reference",
        told="the source was normed by norm2",
        edit=(("attn(z, source,", "attn(z, self.norm2(source),"),),
    ),
    Misconception(
        name="the source asks",
        task="DecoderBlock",
        fails="DecoderBlock__future",
        told="the target asks, the source answers",
        edit=(("attn(z, source,", "attn(source, z,"),),
    ),
    Misconception(
        name="queries not normed",
        task="DecoderBlock",
        fails="DecoderBlock__by_reference",
        told="the queries of cross-attention are not normed",
        edit=(("z = self.norm2(x)", "z = x"),),
    ),
    Misconception(
        name="cross-attention before self-attention",
        task="DecoderBlock",
        fails="DecoderBlock__by_reference",
        told="cross-attention comes before self-attention",
        edit=(
            (
                "z = self.norm1(x)\n        x = x + self.self_attn(z, causal=True)\n        ",
                "",
            ),
            (
                "source, mask=source_mask)\n",
                "source, mask=source_mask)\n        z = self.norm1(x)\n"
                "        x = x + self.self_attn(z, causal=True)\n",
            ),
        ),
    ),
    Misconception(
        name="no residual around cross-attention",
        task="DecoderBlock",
        fails="DecoderBlock__by_reference",
        told="the residual around cross-attention is missing",
        edit=(("x = x + self.multihead_attn", "x = self.multihead_attn"),),
    ),
    Misconception(
        name="post-norm in the decoder",
        task="DecoderBlock",
        fails="DecoderBlock__by_reference",
        told="post-norm: the norms stand behind the sums",
        edit=(
            (
                "z = self.norm1(x)\n        x = x + self.self_attn(z, causal=True)",
                "x = self.norm1(x + self.self_attn(x, causal=True))",
            ),
            (
                "z = self.norm2(x)\n"
                "        x = x + self.multihead_attn(z, source, mask=source_mask)",
                "x = self.norm2(x + self.multihead_attn(x, source, mask=source_mask))",
            ),
            (
                "z = self.norm3(x)\n        return x + self.linear2(self.linear1(z).relu())",
                "return self.norm3(x + self.linear2(self.linear1(x).relu()))",
            ),
        ),
    ),
    Misconception(
        name="norms in the wrong order",
        task="DecoderBlock",
        fails="DecoderBlock__by_reference",
        told="norm2 and norm3 are swapped",
        edit=(
            (
                "z = self.norm1(x)",
                "second, third = self.norm3, self.norm2\n        z = self.norm1(x)",
            ),
            ("z = self.norm2(x)", "z = second(x)"),
            ("z = self.norm3(x)", "z = third(x)"),
        ),
    ),
    Misconception(
        name="three names for one norm",
        task="DecoderBlock",
        fails="DecoderBlock__by_reference",
        told="norm1, norm2 and norm3 are three layers",
        edit=(
            (
                "self.norm1, self.norm2, self.norm3 = LayerNorm(D), LayerNorm(D), LayerNorm(D)",
                "self.norm1 = self.norm2 = self.norm3 = LayerNorm(D)",
            ),
        ),
    ),
    Misconception(
        name="one attention for both",
        task="DecoderBlock",
        fails="DecoderBlock__parameters",
        told="the block has no multihead_attn",
        edit=(
            ("        self.multihead_attn = MultiHeadAttention(D, H)\n", ""),
            ("self.multihead_attn(z", "self.self_attn(z"),
        ),
    ),
    Misconception(
        name="two norms as in the encoder",
        task="DecoderBlock",
        fails="DecoderBlock__parameters",
        told="the block has no norm3",
        edit=(
            (
                "self.norm1, self.norm2, self.norm3 = LayerNorm(D), LayerNorm(D), LayerNorm(D)",
                "self.norm1, self.norm2 = LayerNorm(D), LayerNorm(D)",
            ),
            ("z = self.norm3(x)", "z = self.norm2(x)"),
        ),
    ),
    Misconception(
        name="source mask ignored",
        task="DecoderBlock",
        fails="DecoderBlock__padding",
        told="source_mask goes to cross-attention",
        edit=((", mask=source_mask)", ")"),),
    ),
    Misconception(
        name="source mask for self-attention",
        task="DecoderBlock",
        fails="DecoderBlock__padding",
        told="your code stopped",
        edit=(
            ("(z, causal=True)", "(z, mask=source_mask, causal=True)"),
            (", source, mask=source_mask)", ", source)"),
        ),
    ),
    Misconception(
        name="feed-forward layer left out",
        task="DecoderBlock",
        fails="DecoderBlock__by_reference",
        told="the feed-forward layer is missing",
        edit=(("return x + self.linear2(self.linear1(z).relu())", "return x"),),
    ),
    Misconception(
        name="the encoder is not trained",
        task="DecoderBlock",
        fails="DecoderBlock__gradient",
        told="what the encoder left is trained through this block too",
        edit=(("attn(z, source,", "attn(z, source.detach(),"),),
    ),
)

_WARMUP = (
    Misconception(
        name="the width left out",
        task="warmup_schedule",
        fails="warmup_schedule__by_hand",
        told="the factor D^(−1/2) is missing",
        edit=(("D**-0.5 * min", "min"),),
    ),
    Misconception(
        name="wider is faster",
        task="warmup_schedule",
        fails="warmup_schedule__by_hand",
        told="the width enters as D^(1/2)",
        edit=(("D**-0.5", "D**0.5"),),
    ),
    Misconception(
        name="the larger term",
        task="warmup_schedule",
        fails="warmup_schedule__by_hand",
        told="the larger of the two terms",
        edit=(("min(", "max("),),
    ),
    Misconception(
        name="steps from zero",
        task="warmup_schedule",
        fails="warmup_schedule__by_hand",
        told="t = step: the first step is t = 1",
        edit=(("t = step + 1", "t = step"),),
    ),
    Misconception(
        name="the first step patched",
        task="warmup_schedule",
        fails="warmup_schedule__by_hand",
        told="t = step: the first step is t = 1",
        edit=(("t = step + 1", "t = max(step, 1e-9)"),),
    ),
    Misconception(
        name="one too far",
        task="warmup_schedule",
        fails="warmup_schedule__by_hand",
        told="t = step + 2",
        edit=(("t = step + 1", "t = step + 2"),),
    ),
    Misconception(
        name="warm-up to the minus one half",
        task="warmup_schedule",
        fails="warmup_schedule__by_hand",
        told="warmup has the exponent −1/2",
        edit=(("warmup**-1.5", "warmup**-0.5"),),
    ),
    Misconception(
        name="exponents without brackets",
        task="warmup_schedule",
        fails="warmup_schedule__by_hand",
        told="the exponent needs brackets",
        edit=(("warmup**-1.5", "warmup**-3 / 2"),),
    ),
    Misconception(
        name="falls with one over t",
        task="warmup_schedule",
        fails="warmup_schedule__ratios",
        told="it falls with 1/t",
        edit=(("t**-0.5", "warmup**0.5 / t"),),
    ),
    Misconception(
        name="constant after the warm-up",
        task="warmup_schedule",
        fails="warmup_schedule__shape",
        told="the rate does not fall after the warm-up",
        edit=(("t**-0.5, t", "warmup**-0.5, t"),),
    ),
    Misconception(
        name="warm-up to the minus two thirds",
        task="warmup_schedule",
        fails="warmup_schedule__by_hand",
        told="warmup has the exponent −2/3",
        edit=(("warmup**-1.5", "warmup ** (-2 / 3)"),),
    ),
    Misconception(
        name="no warm-up at all",
        task="warmup_schedule",
        fails="warmup_schedule__by_hand",
        told="the warm-up is missing",
        edit=(("min(t**-0.5, t * warmup**-1.5)", "t**-0.5"),),
    ),
    Misconception(
        name="peak of one",
        task="warmup_schedule",
        fails="warmup_schedule__by_hand",
        told="divided by its highest value",
        edit=(("D**-0.5 *", "warmup**0.5 *"),),
    ),
    Misconception(
        name="the paper's width and warm-up",
        task="warmup_schedule",
        fails="warmup_schedule__settings",
        told="every number comes from the arguments",
        edit=(("    t = step + 1", "    t, D, warmup = step + 1, 512, 4000"),),
    ),
)

_SMOOTHING = (
    Misconception(
        name="shared among the wrong tokens",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__by_hand",
        told="spread over the N − 1 wrong tokens",
        edit=(
            (
                "epsilon * surprise.mean(-1)",
                "epsilon * (surprise.sum(-1) - right) / (surprise.shape[-1] - 1)",
            ),
        ),
    ),
    Misconception(
        name="the right token without its share",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__by_hand",
        told="its share ε/N of the smoothing is missing",
        edit=(
            (
                "epsilon * surprise.mean(-1)",
                "epsilon * (surprise.sum(-1) - right) / surprise.shape[-1]",
            ),
        ),
    ),
    Misconception(
        name="smoothing on top",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__by_hand",
        told="the weights sum to 1 + ε",
        edit=(("(1 - epsilon) * right", "right"),),
    ),
    Misconception(
        name="no smoothing",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__by_hand",
        told="there is no smoothing",
        edit=(("(1 - epsilon) * right + epsilon * surprise.mean(-1)", "right"),),
    ),
    Misconception(
        name="the two shares swapped",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__by_hand",
        told="ε and 1 − ε are swapped",
        edit=(
            ("(1 - epsilon) * right", "epsilon * right"),
            ("epsilon * surprise", "(1 - epsilon) * surprise"),
        ),
    ),
    Misconception(
        name="sum for mean over the vocabulary",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__by_hand",
        told="ε times the sum over the tokens",
        edit=(("surprise.mean(-1)", "surprise.sum(-1)"),),
    ),
    Misconception(
        name="chances smoothed",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__by_hand",
        told="the chances were smoothed",
        answer="""
def label_smoothing_loss(logits, targets, epsilon, pad):
    p = (1 - epsilon) * logits.softmax(-1) + epsilon / logits.shape[-1]
    loss = -p.log().gather(-1, targets[..., None]).squeeze(-1)
    return loss[targets != pad].mean()
""",
    ),
    Misconception(
        name="KL divergence",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__by_hand",
        told="KL divergence, but cross-entropy is asked",
        answer="""
def label_smoothing_loss(logits, targets, epsilon, pad):
    N = logits.shape[-1]
    q = (1 - epsilon) * nn.functional.one_hot(targets, N) + epsilon / N
    real = targets != pad
    logs = logits.log_softmax(-1)
    return nn.functional.kl_div(logs[real], q.to(logs.dtype)[real], reduction="batchmean")
""",
    ),
    Misconception(
        name="softmax over the positions",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__by_hand",
        told="softmax ran over the positions",
        edit=(("log_softmax(-1)", "log_softmax(-2)"),),
    ),
    Misconception(
        name="loss in bits",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__by_hand",
        told="it is in bits",
        edit=(("-logits.log_softmax(-1)", "-logits.softmax(-1).log2()"),),
    ),
    Misconception(
        name="sum over the tokens",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__by_hand",
        told="the sum was taken",
        edit=(("[targets != pad].mean()", "[targets != pad].sum()"),),
    ),
    Misconception(
        name="padding counted",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__padding",
        told="the loss moved when four positions of padding were added",
        edit=(("loss[targets != pad].mean()", "loss.mean()"),),
    ),
    Misconception(
        name="padding erased but divided by",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__tokens",
        told="it was divided by B · T",
        edit=(("loss[targets != pad].mean()", "(loss * (targets != pad)).mean()"),),
    ),
    Misconception(
        name="padding in the smoothed part",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__tokens",
        told="the smoothed part counts padding",
        answer="""
def label_smoothing_loss(logits, targets, epsilon, pad):
    surprise = -logits.log_softmax(-1)
    right = surprise.gather(-1, targets[..., None]).squeeze(-1)
    return (1 - epsilon) * right[targets != pad].mean() + epsilon * surprise.mean()
""",
    ),
    Misconception(
        name="sentence by sentence",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__tokens",
        told="a mean of each sentence divides by 0",
        edit=(
            (
                "return loss[targets != pad].mean()",
                "real = targets != pad\n    return ((loss * real).sum(-1) / real.sum(-1)).mean()",
            ),
        ),
    ),
    Misconception(
        name="pad is no token of the vocabulary",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__tokens",
        told="pad was left out of the vocabulary",
        edit=(
            (
                "epsilon * surprise.mean(-1)",
                "epsilon * (surprise.sum(-1) - surprise[..., pad]) / (surprise.shape[-1] - 1)",
            ),
        ),
    ),
    Misconception(
        name="logarithm of softmax",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__formats",
        told="take log_softmax",
        edit=(("-logits.log_softmax(-1)", "-logits.softmax(-1).log()"),),
    ),
    Misconception(
        name="a number without a gradient",
        task="label_smoothing_loss",
        fails="label_smoothing_loss__gradient",
        told="no gradient flows back",
        edit=(
            (
                "return loss[targets != pad].mean()",
                "return torch.tensor(loss[targets != pad].mean().item(), dtype=logits.dtype)",
            ),
        ),
    ),
)

_ROTARY = (
    Misconception(
        name="halves for neighbours",
        task="apply_rotary",
        fails="apply_rotary__by_hand",
        told="feature i was paired with i + K/2",
        edit=(
            (
                "x[..., 0::2].double(), x[..., 1::2].double()",
                "x[..., : K // 2].double(), x[..., K // 2 :].double()",
            ),
            (
                "torch.stack([first * cos - second * sin, first * sin + second * cos], -1)",
                "torch.stack([first * cos - second * sin, first * sin + second * cos], -2)",
            ),
        ),
    ),
    Misconception(
        name="clockwise",
        task="apply_rotary",
        fails="apply_rotary__by_hand",
        told="the pairs turn clockwise",
        edit=(("cos, sin = angle.cos(), angle.sin()", "cos, sin = angle.cos(), -angle.sin()"),),
    ),
    Misconception(
        name="rotary positions from one",
        task="apply_rotary",
        fails="apply_rotary__by_hand",
        told="the positions count from 1",
        edit=(("torch.arange(offset, offset + T,", "torch.arange(offset + 1, offset + T + 1,"),),
    ),
    Misconception(
        name="exponent i over K",
        task="apply_rotary",
        fails="apply_rotary__by_hand",
        told="the exponent is i/K",
        edit=(("torch.arange(0, K, 2, dtype", "torch.arange(K // 2, dtype"),),
    ),
    Misconception(
        name="exponent doubled twice",
        task="apply_rotary",
        fails="apply_rotary__by_hand",
        told="the exponent is 4i/K",
        edit=(("(-torch.arange(0, K, 2", "(-2 * torch.arange(0, K, 2"),),
    ),
    Misconception(
        name="speeds that grow",
        task="apply_rotary",
        fails="apply_rotary__by_hand",
        told="the angles were multiplied by base",
        edit=(("(-torch.arange(0, K, 2", "(torch.arange(0, K, 2"),),
    ),
    Misconception(
        name="put back as halves",
        task="apply_rotary",
        fails="apply_rotary__by_hand",
        told="the pairs were put back as halves",
        edit=(("second * cos], -1)", "second * cos], -2)"),),
    ),
    Misconception(
        name="angles for halves, pairs of neighbours",
        task="apply_rotary",
        fails="apply_rotary__by_hand",
        told="laid out as for halves",
        answer="""
def apply_rotary(x, offset=0, base=10000.0):
    T, K = x.shape[-2:]
    angle = torch.outer(torch.arange(offset, offset + T), base ** (-torch.arange(0, K, 2) / K))
    angle = torch.cat([angle, angle], -1)
    crossed = torch.stack([-x[..., 1::2], x[..., 0::2]], -1).flatten(-2)
    return (x * angle.cos() + crossed * angle.sin()).to(x.dtype)
""",
    ),
    Misconception(
        name="angles of neighbours, pairs of halves",
        task="apply_rotary",
        fails="apply_rotary__by_hand",
        told="laid out for neighbours, but the features were paired as halves",
        answer="""
def apply_rotary(x, offset=0, base=10000.0):
    T, K = x.shape[-2:]
    angle = torch.outer(torch.arange(offset, offset + T), base ** (-torch.arange(0, K, 2) / K))
    angle = angle.repeat_interleave(2, -1)
    half = torch.cat([-x[..., K // 2 :], x[..., : K // 2]], -1)
    return (x * angle.cos() + half * angle.sin()).to(x.dtype)
""",
    ),
    Misconception(
        name="the second line reads the first one's result",
        task="apply_rotary",
        fails="apply_rotary__by_hand",
        told="made of the first already turned",
        edit=(
            ("    turned = torch", "    first = first * cos - second * sin\n    turned = torch"),
            ("[first * cos - second * sin, first * sin", "[first, first * sin"),
        ),
    ),
    Misconception(
        name="sinusoids added",
        task="apply_rotary",
        fails="apply_rotary__by_hand",
        told="the table of sines and cosines was added",
        edit=(
            (
                "torch.stack([first * cos - second * sin, first * sin + second * cos], -1)",
                "torch.stack([first + sin, second + cos], -1)",
            ),
        ),
    ),
    Misconception(
        name="two plus signs",
        task="apply_rotary",
        fails="apply_rotary__distance",
        told="a rotation keeps it",
        edit=(("first * cos - second * sin", "first * cos + second * sin"),),
    ),
    Misconception(
        name="angles that do not grow evenly",
        task="apply_rotary",
        fails="apply_rotary__distance",
        told="it depends on their distance alone",
        edit=(("angle = position * speed", "angle = position.square() * speed"),),
    ),
    Misconception(
        name="rotary offset ignored",
        task="apply_rotary",
        fails="apply_rotary__offset",
        told="the offset is ignored",
        edit=(("torch.arange(offset, offset + T,", "torch.arange(T,"),),
    ),
    Misconception(
        name="base typed in",
        task="apply_rotary",
        fails="apply_rotary__offset",
        told="base is ignored",
        edit=(("speed = base **", "speed = 10000.0 **"),),
    ),
    Misconception(
        name="positions along axis one",
        task="apply_rotary",
        fails="apply_rotary__formats",
        told="positions run along the last axis but one",
        answer="""
def apply_rotary(x, offset=0, base=10000.0):
    K, axis = x.shape[-1], 1 if x.ndim > 2 else 0
    position = torch.arange(offset, offset + x.shape[axis], dtype=torch.float32)
    angle = torch.outer(position, base ** (-torch.arange(0, K, 2) / K))
    angle = angle.reshape(-1, *[1] * (x.ndim - axis - 2), K // 2)
    first, second, cos, sin = x[..., 0::2], x[..., 1::2], angle.cos(), angle.sin()
    turned = [first * cos - second * sin, first * sin + second * cos]
    return torch.stack(turned, -1).flatten(-2).to(x.dtype)
""",
    ),
    Misconception(
        name="angles in the dtype of x",
        task="apply_rotary",
        fails="apply_rotary__formats",
        told="the angles need float32",
        edit=(("angle = position * speed", "angle = position.to(x.dtype) * speed.to(x.dtype)"),),
    ),
    Misconception(
        name="turned into float32",
        task="apply_rotary",
        fails="apply_rotary__formats",
        told="has dtype",
        edit=(("turned.flatten(-2).to(x.dtype)", "turned.flatten(-2).float()"),),
    ),
    Misconception(
        name="turned without a gradient",
        task="apply_rotary",
        fails="apply_rotary__gradient",
        told="no gradient flows back",
        edit=(
            (
                "first, second = x[..., 0::2].double(), x[..., 1::2].double()",
                "first, second = x.detach()[..., 0::2].double(), x.detach()[..., 1::2].double()",
            ),
        ),
    ),
)

_SAMPLE = (
    Misconception(
        name="temperature multiplies",
        task="sample",
        fails="sample__temperature",
        told="the temperature multiplies the logits",
        edit=((".float32)) / temperature", ".float32)) * temperature"),),
    ),
    Misconception(
        name="temperature ignored",
        task="sample",
        fails="sample__temperature",
        told="the temperature is ignored",
        edit=((".float32)) / temperature", ".float32))"),),
    ),
    Misconception(
        name="temperature of probabilities",
        task="sample",
        fails="sample__temperature",
        told="the logits were divided after softmax",
        edit=(
            (
                "logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature",
                "logits.float().softmax(-1) / temperature",
            ),
        ),
    ),
    Misconception(
        name="divided by a temperature of zero",
        task="sample",
        fails="sample__temperature",
        told="dividing by 0 means nothing",
        edit=(("    if temperature == 0:\n        return logits.argmax(-1)\n", ""),),
    ),
    Misconception(
        name="always the likeliest",
        task="sample",
        fails="sample__temperature",
        told="the likeliest token is always taken",
        edit=(
            (
                "torch.multinomial(p.reshape(-1, N), 1, generator=generator)",
                "p.reshape(-1, N).argmax(-1)",
            ),
        ),
    ),
    Misconception(
        name="ranks for tokens",
        task="sample",
        fails="sample__top_k",
        told="the rank of a token was returned",
        edit=(("order.gather(-1, drawn).squeeze(-1)", "drawn.squeeze(-1)"),),
    ),
    Misconception(
        name="one token more than k",
        task="sample",
        fails="sample__top_k",
        told="four tokens stay instead of three",
        edit=(("rank >= top_k", "rank > top_k"),),
    ),
    Misconception(
        name="cut logits set to zero",
        task="sample",
        fails="sample__top_k",
        told="e⁰ is 1, and −∞ is needed",
        edit=(('float("-inf")', "0.0"),),
    ),
    Misconception(
        name="the first k tokens",
        task="sample",
        fails="sample__top_k",
        told="the first tokens stay",
        edit=(
            ("    if top_k is not None:", "    if top_k is not None and top_k < N:"),
            ("ranked.masked_fill(rank >= top_k,", "ranked.masked_fill(order >= top_k,"),
        ),
    ),
    Misconception(
        name="uniform among the best",
        task="sample",
        fails="sample__top_k",
        told="they keep their proportions",
        edit=(
            (
                "ranked = ranked.masked_fill(rank >= top_k",
                "ranked = torch.zeros_like(ranked).masked_fill(rank >= top_k",
            ),
        ),
    ),
    Misconception(
        name="the crossing token dropped",
        task="sample",
        fails="sample__top_p",
        told="the token that crosses the line was dropped",
        edit=(("likelier = p.cumsum(-1) - p", "likelier = p.cumsum(-1)"),),
    ),
    Misconception(
        name="the crossing token dropped, no token left",
        task="sample",
        fails="sample__top_p",
        told="the token that crosses the line",
        edit=(
            ("likelier = p.cumsum(-1) - p", "likelier = p.cumsum(-1)"),
            ("(likelier >= top_p) & (rank > 0)", "likelier > top_p"),
        ),
    ),
    Misconception(
        name="one token too many",
        task="sample",
        fails="sample__top_p",
        told="one token too many stays",
        edit=(
            (
                "likelier = p.cumsum(-1) - p",
                "likelier = (p.cumsum(-1) - p).roll(1, -1).masked_fill(rank == 0, 0.0)",
            ),
        ),
    ),
    Misconception(
        name="collected from the least likely",
        task="sample",
        fails="sample__top_p",
        told="the least likely tokens were collected",
        edit=(
            (
                "p = ranked.softmax(-1)\n    if top_p is not None:",
                "p = ranked.softmax(-1)\n    if top_p is not None:\n"
                "        p, order = p.flip(-1), order.flip(-1)",
            ),
        ),
    ),
    Misconception(
        name="cut in the wrong order",
        task="sample",
        fails="sample__top_p",
        told="applied to the unsorted tokens",
        answer="""
def sample(logits, temperature=1.0, top_k=None, top_p=None, generator=None):
    if temperature == 0:
        return logits.argmax(-1)
    N = logits.shape[-1]
    logits = logits.float() / temperature
    if top_k is not None:
        order = logits.sort(dim=-1, descending=True, stable=True).indices
        cut = torch.zeros_like(logits).scatter(-1, order[..., top_k:], 1.0).bool()
        logits = logits.masked_fill(cut, float("-inf"))
    p = logits.softmax(-1)
    if top_p is not None:
        ranked = p.sort(-1, descending=True).values
        p = p.masked_fill(ranked.cumsum(-1) - ranked >= top_p, 0.0)
    drawn = torch.multinomial(p.reshape(-1, N), 1, generator=generator)
    return drawn.reshape(logits.shape[:-1])
""",
    ),
    Misconception(
        name="top-p of everything",
        task="sample",
        fails="sample__together",
        told="top-p counts what is left after top-k",
        edit=(
            (
                "    rank = torch.arange(N)",
                "    rank, whole = torch.arange(N), ranked.softmax(-1)",
            ),
            ("likelier = p.cumsum(-1) - p", "likelier = whole.cumsum(-1) - whole"),
        ),
    ),
    Misconception(
        name="top-p before the temperature",
        task="sample",
        fails="sample__together",
        told="top-p was cut before the temperature",
        edit=(
            (
                "likelier = p.cumsum(-1) - p",
                "cold = (ranked * temperature).softmax(-1)\n"
                "        likelier = cold.cumsum(-1) - cold",
            ),
        ),
    ),
    Misconception(
        name="a threshold keeps all equals",
        task="sample",
        fails="sample__together",
        told="of equally likely tokens all stay",
        edit=(
            (
                "ranked.masked_fill(rank >= top_k,",
                "ranked.masked_fill(ranked < ranked[..., [min(top_k, N) - 1]],",
            ),
        ),
    ),
    Misconception(
        name="k beyond the vocabulary",
        task="sample",
        fails="sample__together",
        told="top_k may be larger than N",
        edit=(
            (
                "ranked.masked_fill(rank >= top_k,",
                "ranked.masked_fill(rank >= logits.topk(top_k).values.shape[-1],",
            ),
        ),
    ),
    Misconception(
        name="one draw for all rows",
        task="sample",
        fails="sample__draws",
        told="does each row have its own draw?",
        answer="""
def sample(logits, temperature=1.0, top_k=None, top_p=None, generator=None):
    if temperature == 0:
        return logits.argmax(-1)
    wide = logits.double() / temperature
    ranked, order = wide.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(logits.shape[-1])
    if top_k is not None:
        ranked = ranked.masked_fill(rank >= top_k, float("-inf"))
    p = ranked.softmax(-1)
    if top_p is not None:
        p = p.masked_fill((p.cumsum(-1) - p >= top_p) & (rank > 0), 0.0)
        p = p / p.sum(-1, keepdim=True)
    u = torch.rand(1, generator=generator, dtype=torch.float64)
    drawn = (p.cumsum(-1) <= u).sum(-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return order.gather(-1, drawn).squeeze(-1)
""",
    ),
    Misconception(
        name="exactly one batch axis",
        task="sample",
        fails="sample__draws",
        told="flatten the batch for the draw",
        edit=(
            ("p.reshape(-1, N)", "p"),
            ("    drawn = drawn.reshape(*logits.shape[:-1], 1)\n", ""),
        ),
    ),
    Misconception(
        name="the generator is not handed on",
        task="sample",
        fails="sample__draws",
        told="hand the generator on",
        edit=((", 1, generator=generator)", ", 1)"),),
    ),
    Misconception(
        name="a seed of its own",
        task="sample",
        fails="sample__draws",
        told="set no seed of your own",
        edit=(("    N = logits.shape[-1]", "    torch.manual_seed(0)\n    N = logits.shape[-1]"),),
    ),
)

_COUNT = (
    Misconception(
        name="attention without biases",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__parameters",
        told="the biases of attention",
        edit=(("attention = 4 * (D * D + D)", "attention = 4 * D * D"),),
    ),
    Misconception(
        name="feed-forward without biases",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__parameters",
        told="the biases of the feed-forward layers are missing",
        edit=(("D * hidden + hidden + hidden * D + D", "2 * D * hidden"),),
    ),
    Misconception(
        name="norms without a bias",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__parameters",
        told="a norm has one vector only",
        edit=(("feed_forward + 4 * D) + 2 * D", "feed_forward + 2 * D) + D"),),
    ),
    Misconception(
        name="the last norm forgotten",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__parameters",
        told="the last norm is missing",
        edit=(("feed_forward + 4 * D) + 2 * D", "feed_forward + 4 * D)"),),
    ),
    Misconception(
        name="every head has projections of full width",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__parameters",
        told="heads have projections of full width",
        edit=(("attention = 4 * (", "attention = H * 4 * ("),),
    ),
    Misconception(
        name="three projections",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__parameters",
        told="there are three projections",
        edit=(("attention = 4 * (", "attention = 3 * ("),),
    ),
    Misconception(
        name="a head with a bias",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__parameters",
        told="the head has no bias",
        edit=(("tables * vocabulary * D", "tables * vocabulary * D + vocabulary"),),
    ),
    Misconception(
        name="flops before parameters",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__parameters",
        told="the wrong order",
        edit=(
            (
                "return parameters, 2 * B * (layers * products + T * D * vocabulary)",
                "return 2 * B * (layers * products + T * D * vocabulary), parameters",
            ),
        ),
    ),
    Misconception(
        name="multiply-adds counted once",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__flops",
        told="count as two",
        edit=(("parameters, 2 * B *", "parameters, B *"),),
    ),
    Misconception(
        name="no products of attention",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__flops",
        told="scores and their use, are missing",
        edit=((" + 2 * T * T * D", ""),),
    ),
    Misconception(
        name="scores but not their use",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__flops",
        told="half of attention's products is missing",
        edit=(("2 * T * T * D", "T * T * D"),),
    ),
    Misconception(
        name="closed scores cost nothing",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__flops",
        told="closed scores are computed all the same",
        edit=(("2 * T * T * D", "T * (T + 1) * D"),),
    ),
    Misconception(
        name="every head at full width",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__flops",
        told="each head has products of width D/H",
        edit=(("2 * T * T * D", "2 * H * T * T * D"),),
    ),
    Misconception(
        name="the head is free",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__flops",
        told="the head is missing; it is a product too",
        edit=(("(layers * products + T * D * vocabulary)", "layers * products"),),
    ),
    Misconception(
        name="two for each parameter and token",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__flops",
        told="attention's products have none",
        edit=(("2 * B * (layers * products + T * D * vocabulary)", "2 * B * T * parameters"),),
    ),
    Misconception(
        name="a training step",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__flops",
        told="one forward pass is asked",
        edit=(("parameters, 2 * B *", "parameters, 6 * B *"),),
    ),
    Misconception(
        name="a tied head counted twice",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__measured",
        told="a tied head has no table of its own",
        edit=(("1 if tied else 2", "2"),),
    ),
    Misconception(
        name="a tied head is free",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__measured",
        told="a tied head is computed all the same",
        edit=(("T * D * vocabulary)", "(not tied) * T * D * vocabulary)"),),
    ),
    Misconception(
        name="the batch forgotten",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__measured",
        told="B sequences cost B times as much",
        edit=(("parameters, 2 * B *", "parameters, 2 *"),),
    ),
    Misconception(
        name="the batch as one long sequence",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__measured",
        told="sequences do not look at each other",
        edit=(("attention = 4 * (D", "T, B = T * B, 1\n    attention = 4 * (D"),),
    ),
    Misconception(
        name="hidden is four times D",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__parameters",
        told="it need not be 4 · D",
        edit=(("attention = 4 * (D", "hidden = 4 * D\n    attention = 4 * (D"),),
    ),
    Misconception(
        name="the rule of thumb",
        task="count_parameters_and_flops",
        fails="count_parameters_and_flops__large",
        told="count in whole numbers",
        edit=(
            (
                "layers * (attention + feed_forward + 4 * D) + 2 * D +",
                "layers * 12 * D * D +",
            ),
        ),
    ),
)

MISCONCEPTIONS: tuple[Misconception, ...] = (
    *_NORM,
    *_ENCODER,
    *_DECODER,
    *_WARMUP,
    *_SMOOTHING,
    *_ROTARY,
    *_SAMPLE,
    *_COUNT,
)


# An attention of one's own, with the parameters of the one that is given.
_OWN_ATTENTION = """
class Attention(nn.Module):
    def __init__(self, D, H):
        super().__init__()
        self.H = H
        self.in_proj_weight = nn.Parameter(torch.randn(3 * D, D) / D**0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * D))
        self.out_proj = nn.Linear(D, D)

    def forward(self, x, y, mask=None):
        B, T, D = x.shape
        W, b = self.in_proj_weight.split(D), self.in_proj_bias.split(D)
        q, k, v = (
            (z @ w.T + c).unflatten(-1, (self.H, D // self.H)).transpose(1, 2)
            for z, w, c in zip((x, y, y), W, b)
        )
        if mask is not None and mask.ndim == 3:
            mask = mask[:, None]
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(mixed.transpose(1, 2).reshape(B, T, D))
"""

RIGHT_ANSWERS: tuple[RightAnswer, ...] = (
    RightAnswer(
        name="var_mean",
        task="LayerNorm",
        answer="""
class LayerNorm(nn.Module):
    def __init__(self, D, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D))
        self.bias = nn.Parameter(torch.zeros(D))
        self.eps = eps

    def forward(self, x):
        wide = x if x.dtype == torch.float64 else x.float()
        var, mean = torch.var_mean(wide, dim=-1, correction=0, keepdim=True)
        y = (wide - mean) * torch.rsqrt(var + self.eps)
        return torch.addcmul(self.bias.to(y), y, self.weight.to(y)).to(x.dtype)
""",
    ),
    RightAnswer(
        name="one vector at a time",
        task="LayerNorm",
        answer="""
class LayerNorm(nn.Module):
    def __init__(self, D, eps=1e-5):
        super().__init__()
        self.D, self.eps = D, eps
        self.bias = nn.Parameter(torch.zeros(D))
        self.weight = nn.Parameter(torch.ones(D))

    def forward(self, x):
        rows = []
        for row in x.reshape(-1, self.D):
            row = row.to(torch.promote_types(row.dtype, torch.float32))
            off = row - row.sum() / self.D
            rows.append(off / ((off * off).sum() / self.D + self.eps) ** 0.5)
        return (torch.stack(rows) * self.weight + self.bias).reshape(x.shape).to(x.dtype)
""",
    ),
    RightAnswer(
        name="projection and length",
        task="LayerNorm",
        answer="""
class LayerNorm(nn.Module):
    def __init__(self, D, eps=1e-5):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.full((D,), 1.0)))
        self.register_parameter("bias", nn.Parameter(torch.full((D,), 0.0)))
        self.eps = eps

    def forward(self, x):
        D = x.shape[-1]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        centre = torch.eye(D, dtype=wide.dtype) - 1 / D
        off = wide @ centre
        length = (torch.einsum("...d,...d->...", off, off) + D * self.eps).sqrt()
        y = off * D**0.5 / length[..., None]
        return (y * self.weight + self.bias).to(x.dtype)
""",
    ),
    RightAnswer(
        name="one helper for both sublayers",
        task="EncoderBlock",
        answer="""
class EncoderBlock(nn.Module):
    def __init__(self, D, H, hidden):
        super().__init__()
        self.self_attn = MultiHeadAttention(D, H)
        self.linear1, self.linear2 = nn.Linear(D, hidden), nn.Linear(hidden, D)
        self.norm1 = LayerNorm(D)
        self.norm2 = LayerNorm(D)
        self.dropout = nn.Dropout(0.0)

    def add(self, x, norm, sublayer):
        return x + self.dropout(sublayer(norm(x)))

    def forward(self, x, mask=None):
        x = self.add(x, self.norm1, lambda z: self.self_attn(z, None, mask))
        return self.add(x, self.norm2, self.feed_forward)

    def feed_forward(self, z):
        return self.linear2(torch.clamp(self.linear1(z), min=0))
""",
    ),
    RightAnswer(
        name="attention of one's own",
        task="EncoderBlock",
        answer=_OWN_ATTENTION
        + """

class EncoderBlock(nn.Module):
    def __init__(self, D, H, hidden):
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(D, eps=1e-5), LayerNorm(D, 1e-5)
        self.self_attn = Attention(D, H)
        self.linear1, self.linear2 = nn.Linear(D, hidden), nn.Linear(hidden, D)

    def forward(self, x, mask=None):
        z = self.norm1(x)
        x = x + self.self_attn(z, z, mask)
        hidden = self.linear1(self.norm2(x))
        return x + self.linear2(torch.where(hidden > 0, hidden, 0.0))
""",
    ),
    RightAnswer(
        name="torch's attention, its mask inverted",
        task="EncoderBlock",
        answer="""
class EncoderBlock(nn.Module):
    def __init__(self, D, H, hidden):
        super().__init__()
        self.H = H
        self.norm1, self.norm2 = LayerNorm(D), LayerNorm(D)
        self.self_attn = nn.MultiheadAttention(D, H, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(D, hidden), nn.Linear(hidden, D)

    def forward(self, x, mask=None):
        B, T, _ = x.shape
        closed = None
        if mask is not None:
            closed = ~mask.expand(B, T, T).repeat_interleave(self.H, 0)
        z = self.norm1(x)
        found, _ = self.self_attn(z, z, z, attn_mask=closed, need_weights=False)
        x = torch.add(x, found)
        return torch.add(x, self.linear2(nn.functional.relu(self.linear1(self.norm2(x)))))
""",
    ),
    RightAnswer(
        name="a causal mask of ones",
        task="DecoderBlock",
        answer="""
class DecoderBlock(nn.Module):
    def __init__(self, D, H, hidden):
        super().__init__()
        for i in (1, 2, 3):
            self.add_module(f"norm{i}", LayerNorm(D))
        for name in ("self_attn", "multihead_attn"):
            self.add_module(name, MultiHeadAttention(D, H))
        self.linear1, self.linear2 = nn.Linear(D, hidden), nn.Linear(hidden, D)

    def forward(self, x, source, source_mask=None):
        T = x.shape[1]
        past = torch.ones(T, T, dtype=torch.bool).tril()
        x = x + self.self_attn(self.norm1(x), mask=past)
        x = x + self.multihead_attn(self.norm2(x), source, source_mask)
        return x + self.linear2(torch.relu(self.linear1(self.norm3(x))))
""",
    ),
    RightAnswer(
        name="attention of one's own",
        task="DecoderBlock",
        answer=_OWN_ATTENTION
        + """

class DecoderBlock(nn.Module):
    def __init__(self, D, H, hidden):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (LayerNorm(D) for _ in range(3))
        self.self_attn, self.multihead_attn = Attention(D, H), Attention(D, H)
        self.linear1, self.linear2 = nn.Linear(D, hidden), nn.Linear(hidden, D)

    def forward(self, x, source, source_mask=None):
        steps = torch.arange(x.shape[1])
        z = self.norm1(x)
        y = x + self.self_attn(z, z, steps[None, :] <= steps[:, None])
        y = y + self.multihead_attn(self.norm2(y), source, source_mask)
        return y + self.linear2(self.linear1(self.norm3(y)).clamp_min(0))
""",
    ),
    RightAnswer(
        name="one position at a time",
        task="DecoderBlock",
        answer="""
from lookback.masks import causal


class DecoderBlock(nn.Module):
    def __init__(self, D, H, hidden):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = LayerNorm(D), LayerNorm(D), LayerNorm(D)
        self.self_attn = MultiHeadAttention(D, H)
        self.multihead_attn = MultiHeadAttention(D, H)
        self.linear1, self.linear2 = nn.Linear(D, hidden), nn.Linear(hidden, D)

    def forward(self, x, source, source_mask=None):
        z = self.norm1(x)
        seen = [self.self_attn(z[:, t : t + 1], z[:, : t + 1]) for t in range(x.shape[1])]
        x = x + torch.cat(seen, 1)
        x = x + self.multihead_attn(self.norm2(x), source, mask=source_mask)
        hidden = nn.functional.relu(self.linear1(self.norm3(x)))
        return x + self.linear2(hidden)
""",
    ),
    RightAnswer(
        name="two cases",
        task="warmup_schedule",
        answer="""
import math


def warmup_schedule(step, D, warmup):
    if step + 1 <= warmup:
        return (step + 1) / (math.sqrt(D) * warmup * math.sqrt(warmup))
    return 1 / math.sqrt(D * (step + 1))
""",
    ),
    RightAnswer(
        name="a share of the highest rate",
        task="warmup_schedule",
        answer="""
def warmup_schedule(step, D, warmup):
    top = (D * warmup) ** -0.5
    done = (1 + step) / warmup
    return top * min(done, done**-0.5)
""",
    ),
    RightAnswer(
        name="a tensor",
        task="warmup_schedule",
        answer="""
def warmup_schedule(step, D, warmup):
    t = torch.tensor(step + 1.0, dtype=torch.float64)
    return torch.minimum(t.rsqrt(), t / warmup**1.5) / D**0.5
""",
    ),
    RightAnswer(
        name="targets as distributions",
        task="label_smoothing_loss",
        answer="""
def label_smoothing_loss(logits, targets, epsilon, pad):
    N = logits.shape[-1]
    q = torch.full_like(logits, epsilon / N)
    q = q.scatter(-1, targets[..., None], 1 - epsilon + epsilon / N)
    loss = -(q * torch.log_softmax(logits, -1)).sum(-1)
    real = (targets != pad).to(loss.dtype)
    return (loss * real).sum() / real.sum()
""",
    ),
    RightAnswer(
        name="one token at a time",
        task="label_smoothing_loss",
        answer="""
def label_smoothing_loss(logits, targets, epsilon, pad):
    N, total, count = logits.shape[-1], 0.0, 0
    for z, y in zip(logits.reshape(-1, N), targets.reshape(-1).tolist()):
        if y != pad:
            nats = torch.logsumexp(z, 0) - z
            total = total + (1 - epsilon) * nats[y] + epsilon / N * nats.sum()
            count += 1
    return total / count
""",
    ),
    RightAnswer(
        name="logsumexp and an einsum",
        task="label_smoothing_loss",
        answer="""
def label_smoothing_loss(logits, targets, epsilon, pad):
    keep = targets != pad
    z, y = logits[keep], targets[keep]
    right = nn.functional.one_hot(y, z.shape[-1]).to(z.dtype)
    q = torch.lerp(right, torch.full_like(right, 1 / z.shape[-1]), epsilon)
    return z.logsumexp(-1).mean() - torch.einsum("nv,nv->", q, z) / len(z)
""",
    ),
    RightAnswer(
        name="complex numbers",
        task="apply_rotary",
        answer="""
def apply_rotary(x, offset=0, base=10000.0):
    T, K = x.shape[-2:]
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    speed = base ** (-torch.arange(0, K, 2) / K)
    angle = torch.outer(torch.arange(T) + offset, speed).to(wide.dtype)
    turn = torch.polar(torch.ones_like(angle), angle)
    pairs = torch.view_as_complex(wide.unflatten(-1, (K // 2, 2)).contiguous())
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)
""",
    ),
    RightAnswer(
        name="features and their crossed partners",
        task="apply_rotary",
        answer="""
def apply_rotary(x, offset=0, base=10000.0):
    T, K = x.shape[-2:]
    column = torch.arange(K)
    angle = (torch.arange(T).float()[:, None] + offset) / base ** ((column - column % 2) / K)
    sign = 2.0 * (column % 2) - 1
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    crossed = wide[..., column ^ 1] * sign
    return (wide * angle.cos() + crossed * angle.sin()).to(x.dtype)
""",
    ),
    RightAnswer(
        name="a matrix for every position",
        task="apply_rotary",
        answer="""
import math


def apply_rotary(x, offset=0, base=10000.0):
    T, K = x.shape[-2:]
    turns = torch.zeros(T, K, K, dtype=torch.float64)
    for t in range(T):
        for i in range(0, K, 2):
            c, s = (f((offset + t) * base ** (-i / K)) for f in (math.cos, math.sin))
            turns[t, i : i + 2, i : i + 2] = torch.tensor([[c, -s], [s, c]])
    return torch.einsum("tij,...tj->...ti", turns, x.double()).to(x.dtype)
""",
    ),
    RightAnswer(
        name="written into an empty tensor",
        task="apply_rotary",
        answer="""
def apply_rotary(x, offset=0, base=10000.0):
    *_, T, K = x.shape
    i = torch.arange(K // 2)
    angle = (torch.arange(T)[:, None] + offset) * torch.exp(-2 * i / K * torch.tensor(base).log())
    cos, sin = torch.cos(angle), torch.sin(angle)
    y = torch.zeros(x.shape, dtype=x.dtype)
    y[..., 0::2] = (x[..., 0::2] * cos - x[..., 1::2] * sin).to(x.dtype)
    y[..., 1::2] = (x[..., 0::2] * sin + x[..., 1::2] * cos).to(x.dtype)
    return y
""",
    ),
    RightAnswer(
        name="Gumbel noise",
        task="sample",
        answer="""
def sample(logits, temperature=1.0, top_k=None, top_p=None, generator=None):
    if temperature == 0:
        return logits.argmax(dim=-1)
    z = logits.double() / temperature
    order = z.argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1)
    if top_k is not None:
        z = torch.where(rank < top_k, z, float("-inf"))
    if top_p is not None:
        p = z.softmax(-1).gather(-1, order)
        size = 1 + (p.cumsum(-1) < top_p - 1e-9).sum(-1, keepdim=True)
        z = torch.where(rank < size, z, float("-inf"))
    waits = torch.empty_like(z).exponential_(generator=generator)
    return (z - waits.log()).argmax(dim=-1)
""",
    ),
    RightAnswer(
        name="a point on the cumulative sum",
        task="sample",
        answer="""
def sample(logits, temperature=1.0, top_k=None, top_p=None, generator=None):
    N = logits.shape[-1]
    if temperature == 0:
        top_k, temperature = 1, 1.0
    p = (logits.double() / temperature).softmax(-1)
    p, order = p.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        p = p * (torch.arange(N) < top_k)
        p = p / p.sum(-1, keepdim=True)
    if top_p is not None:
        size = 1 + (p.cumsum(-1) < top_p - 1e-9).sum(-1, keepdim=True)
        p = p * (torch.arange(N) < size)
    total = p.cumsum(-1)
    u = torch.rand(logits.shape[:-1], generator=generator, dtype=torch.float64)
    u = u[..., None] * total[..., -1:]
    drawn = (total <= u).sum(-1, keepdim=True).clamp(max=N - 1)
    return order.gather(-1, drawn).squeeze(-1)
""",
    ),
    RightAnswer(
        name="row by row, cut by index",
        task="sample",
        answer="""
def sample(logits, temperature=1.0, top_k=None, top_p=None, generator=None):
    if temperature == 0:
        return logits.argmax(-1)
    rows, where = torch.unique(
        logits.reshape(-1, logits.shape[-1]).float(), dim=0, return_inverse=True
    )
    tables = []
    for z in rows / temperature:
        kept = sorted(range(len(z)), key=lambda j: (-z[j].item(), j))[:top_k]
        p = z[kept].softmax(0).tolist()
        if top_p is not None:
            total, size = 0.0, 0
            while size < len(p) and total < top_p - 1e-7:
                total, size = total + p[size], size + 1
            kept, p = kept[:size], p[:size]
        table = torch.zeros(len(z))
        table[kept] = torch.tensor(p)
        tables.append(table)
    drawn = torch.multinomial(torch.stack(tables)[where], 1, generator=generator)
    return drawn.reshape(logits.shape[:-1])
""",
    ),
    RightAnswer(
        name="a list of products",
        task="count_parameters_and_flops",
        answer="""
def count_parameters_and_flops(vocabulary, D, H, layers, hidden, T, B=1, tied=False):
    def product(m, n, p):
        return 2 * m * n * p

    flops = product(B * T, D, vocabulary)
    parameters = vocabulary * D * (1 + (not tied)) + D + D
    for _ in range(layers):
        for wide, narrow in [(D, D)] * 4 + [(D, hidden), (hidden, D)]:
            parameters += wide * narrow + narrow
            flops += product(B * T, wide, narrow)
        parameters += 2 * (D + D)
        for _ in range(B * H):
            flops += product(T, D // H, T) + product(T, T, D // H)
    return parameters, flops
""",
    ),
    RightAnswer(
        name="built without memory and counted",
        task="count_parameters_and_flops",
        answer="""
def count_parameters_and_flops(vocabulary, D, H, layers, hidden, T, B=1, tied=False):
    with torch.device("meta"):
        block = [nn.Linear(D, D) for _ in range(4)]
        block += [nn.Linear(D, hidden), nn.Linear(hidden, D), nn.RMSNorm(D), nn.RMSNorm(D)]
        block += [nn.RMSNorm(D), nn.RMSNorm(D)]  # the biases of the norms
        tables = [nn.Linear(D, vocabulary, bias=False) for _ in range(1 if tied else 2)]
    size = lambda parts: sum(w.numel() for part in parts for w in part.parameters())
    parameters = layers * size(block) + 2 * D + size(tables)
    weights = layers * sum(part.weight.numel() for part in block[:6]) + tables[0].weight.numel()
    return parameters, 2 * B * T * weights + layers * B * H * 2 * (2 * T * T * D // H)
""",
    ),
    RightAnswer(
        name="factored",
        task="count_parameters_and_flops",
        answer="""
def count_parameters_and_flops(vocabulary, D, H, layers, hidden, T, B=1, tied=False):
    matrices = layers * (4 * D + 2 * hidden) * D
    vectors = layers * (9 * D + hidden) + 2 * D
    table = vocabulary * D
    multiplications = B * T * (matrices + table + layers * 2 * T * D)
    return matrices + vectors + table * (2 - int(tied)), multiplications * 2
""",
    ),
)
