/**
 * HeadLoss: log-probabilities of tokens under the output projection, in chunks.
 *
 * With a vocabulary of 49,152 the logits of 2,048 tokens are 400 MB, and so is each of their companions in the backward
 * pass. Here only one chunk of them exists at a time. With h [N, H], W [V, H] and p = softmax(h Wᵀ), the gradient of
 * log p(x) with respect to h is W[x] − p W: it does not depend on the loss, so each chunk computes it in the forward
 * pass beside its log-probabilities, and the logits are forgotten at once. Where logits are capped, each of them counts
 * by the slope s of its cap: s[x] W[x] − (p s) W.
 */
import type { Projection } from "../model/Transformer.ts"
import * as Graph from "../onnx/Graph.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"

/** Bytes that the logits of a chunk may take. */
const chunkBytes = 2 ** 26

/** Chunks at most: each is a part of the graph, and where there are hundreds of them it takes minutes to compile. */
const mostChunks = 64

/**
 * How many chunks keep the logits of at most `tokens` tokens within bounds. Of so many tokens that this would be too
 * many chunks, all else in memory is larger than the logits.
 */
export const chunksFor = (tokens: number, vocabulary: number): number =>
  Math.min(mostChunks, Math.max(1, Math.ceil((4 * tokens * vocabulary) / chunkBytes)))

/** The sizes of `chunks` chunks of n tokens, as even as can be. */
export const sizes = (n: number, chunks: number): ReadonlyArray<number> =>
  Array.from({ length: chunks }, (_, i) => Math.floor(((i + 1) * n) / chunks) - Math.floor((i * n) / chunks))

/** What a graph needs to know of its head. */
export interface Options {
  readonly chunks: number
  /** What gradients are asked for: none, that of the hidden states, or also that of this weight of the projection. */
  readonly learns: "nothing" | "hidden" | Value
  readonly projection: Projection
  /** Logits z are c·tanh(z / c) where there is such a cap (Gemma 2). */
  readonly cap?: number | undefined
}

/**
 * log p of `targets` [N], nats, given hidden states [N, H]: [N]. With more than one chunk the graph has an input
 * `chunks` int64 [chunks] more, see {@link sizes}.
 */
export const logprobs = (hidden: Value, targets: Value, options: Options): Value => {
  const { chunks, learns, projection } = options
  const { graph } = hidden
  const [N, H] = [hidden.shape[0]!, Number(hidden.shape[1])]
  const lengths = chunks === 1 ? undefined : Graph.input(graph, "chunks", "int64", [chunks])
  const names = Array.from({ length: chunks }, (_, i) => `N${i}`)
  const cut = (x: Value) => (lengths === undefined ? [x] : Op.splitBy(x, 0, lengths, names))
  const join = joined(N)

  const states = cut(hidden)
  const tokens = cut(targets)
  const results = states.map((h, i) => {
    const at = column(tokens[i]!)
    const { logits, slope } = capped(h, options)
    const logp = Op.logSoftmax(logits)
    const picked = Op.gatherElements(logp, at)
    if (learns === "nothing") return picked
    const [p, own] = [Op.exp(logp), projection.rows(tokens[i]!)]
    const direction =
      slope === undefined
        ? Op.sub(own, projection.expected(p))
        : Op.sub(Op.mul(own, Op.gatherElements(slope, at)), projection.expected(Op.mul(p, slope)))
    // One tensor for both: whoever asks for the log-probabilities has the direction computed, and the logits freed.
    return Op.concat([picked, direction], 1)
  })
  if (learns === "nothing") return Op.reshape(join(results), targets.shape)
  const [picked, direction] = Op.split(join(results), 1, [1, H]) as [Value, Value]
  const weights = learns === "hidden" ? [] : [learns]
  return Graph.withGradient([hidden, ...weights], Op.reshape(picked, targets.shape), (dy) => [
    Op.mul(direction, column(dy)),
    ...weights.map(() => weightGradient(hidden, states, targets, tokens, dy, cut(dy), options))
  ])
}

const joined =
  (size: Graph.Dim) =>
  (parts: ReadonlyArray<Value>): Value =>
    parts.length === 1 ? parts[0]! : Op.concat(parts, 0, size)

/** Logits and, where they are capped, the slopes of the cap. */
const capped = (h: Value, { cap, projection }: Options): { logits: Value; slope: Value | undefined } => {
  const plain = projection.logits(h)
  if (cap === undefined) return { logits: plain, slope: undefined }
  const t = Op.tanh(Op.scale(plain, 1 / cap))
  return { logits: Op.scale(t, cap), slope: Op.sub(Graph.scalar(h.graph, 1), Op.mul(t, t)) }
}

const column = (x: Value): Value => Op.reshape(x, [...x.shape, 1])

/**
 * The projection's gradient, Σ dyᵢ (onehot(xᵢ) − pᵢ) hᵢᵀ [V, H], by slopes where there is a cap; the probabilities are
 * computed again, chunk by chunk.
 */
const weightGradient = (
  hidden: Value,
  states: ReadonlyArray<Value>,
  targets: Value,
  tokens: ReadonlyArray<Value>,
  dy: Value,
  dys: ReadonlyArray<Value>,
  options: Options
): Value => {
  const slopes: Array<Value> = []
  const spread = states
    .map((h, i) => {
      // Without this the runtime would take the forward pass's logits and keep them until here.
      const later = Op.add(h, Op.scale(Op.sumAll(dys[i]!), 0))
      const { logits, slope } = capped(later, options)
      const p = Op.softmax(logits)
      if (slope !== undefined) slopes.push(Op.gatherElements(slope, column(tokens[i]!)))
      const felt = slope === undefined ? p : Op.mul(p, slope)
      return Op.matmul(Op.mul(felt, Op.neg(column(dys[i]!))), h, { transA: true })
    })
    .reduce((a, b) => Op.add(a, b))
  const weights = slopes.length === 0 ? column(dy) : Op.mul(column(dy), joined(hidden.shape[0]!)(slopes))
  return Op.scatterAddRows(spread, targets, Op.mul(hidden, weights))
}
