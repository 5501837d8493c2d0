/**
 * DecodeProgram: one decoding run as a graph.
 *
 * It attends over the past, which is fed without a copy, and over the new tokens, samples one token for each position
 * asked for, and returns that token and the new rows of keys and values alone: outputs are what costs. The same graph
 * prefills prompts (many new tokens) and continues them (one new token).
 *
 * Results: `token` [N], `logprob` [N] at temperature 1, `probability` [N] under the sampling distribution, `rows`
 * [2·layers·B, kvHeads, T, headDim], and `logits` [F, V] of the positions `wanted` of N, for `Sampling.draw`.
 */
import * as Attention from "../model/Attention.ts"
import type { ModelConfig } from "../model/ModelConfig.ts"
import * as Transformer from "../model/Transformer.ts"
import * as Graph from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import * as Adapters from "./Adapters.ts"
import type { Base } from "./Base.ts"
import * as Prefill from "./Prefill.ts"
import * as Program from "./Program.ts"

/** The graph, for a base with an adapter's shape or without one. */
export const build = (checkpoint: Base, adapter: Adapters.Adapter | undefined): Graph.Graph => {
  const graph = Graph.make(adapter === undefined ? "decode" : "decode with adapter")
  const { config, parameters } = Program.network(graph, checkpoint, Adapters.inputs(graph, adapter), "steady")
  const input = { ...Program.tokenInputs(graph), past: pastInputs(graph, config) }
  const { hidden, keys, values } = Transformer.build(config, parameters, input, tableRows(config))
  const logits = Transformer.logits(config, parameters, hidden(Graph.input(graph, "last", "int64", ["N"])))
  const { probability, token } = sample(
    logits,
    Graph.input(graph, "inverse_temperature", "float32", ["N", 1]),
    Graph.input(graph, "uniform", "float32", ["N", 1])
  )
  Graph.output(graph, "token", token)
  Graph.output(graph, "logprob", Op.tokenLogprobs(logits, token))
  Graph.output(graph, "probability", probability)
  Graph.output(graph, "logits", Op.gather(logits, Graph.input(graph, "wanted", "int64", ["F"])))
  Graph.output(graph, "rows", Op.concat([...keys, ...values], 0, `${2 * config.layers}*B`))
  return graph
}

/**
 * `steps` tokens for each row, one after the other, in one run: the graph of a device that keeps nothing between two
 * runs, so that keys and values cross the bus once for many tokens.
 *
 * What it attends over grows by a column with each token, behind those of the past. `uniform` [K, B, 1] has the random
 * numbers of all steps. Results: `token`, `logprob` and `probability` [K, B], and `rows` [2·layers·B, kvHeads, K,
 * headDim], as `build` has them.
 */
export const burst = (checkpoint: Base, adapter: Adapters.Adapter | undefined): Graph.Graph => {
  const graph = Graph.make(adapter === undefined ? "decode in bursts" : "decode in bursts with adapter")
  const { config, parameters } = Program.network(graph, checkpoint, Adapters.inputs(graph, adapter), "steady")
  const past = pastInputs(graph, config)
  const inverse = Graph.input(graph, "inverse_temperature", "float32", ["B", 1])
  const uniform = Graph.input(graph, "uniform", "float32", ["K", "B", 1])
  const [one, last] = [1, config.maxPositions - 1].map((n) => Graph.constant(graph, "int64", [], [n]))
  const row = ["B", 1, 1, "S"]
  const tensor = ["B", config.kvHeads, "S", config.headDim]

  const { carried, collected } = Graph.repeat(
    graph,
    Graph.input(graph, "steps", "int64", []),
    "K",
    [
      { value: Graph.input(graph, "ids", "int64", ["B", 1]) },
      { value: Graph.input(graph, "positions", "int64", ["B", 1]) },
      { value: past.mask, shape: row },
      { value: Attention.columns(past.mask), shape: row },
      ...[...past.keys, ...past.values].map((value) => ({ value, shape: tensor }))
    ],
    (step, [ids, positions, seen, columns, ...cache]) => {
      const at = Op.cast(positions!, "float32")
      const grown = (x: Graph.Value, more: Graph.Value) => Op.concat([x, Op.reshape(more, ["B", 1, 1, 1])], 3, "S+1")
      const growing = {
        keys: cache.slice(0, config.layers),
        values: cache.slice(config.layers),
        mask: grown(seen!, Op.zerosLike(at)),
        positions: grown(columns!, at)
      }
      const input = { ids: ids!, positions: positions!, mask: undefined, growing }
      const { hidden, keys, values } = Transformer.build(config, parameters, input, tableRows(config))
      const logits = Transformer.logits(config, parameters, Op.reshape(hidden(), ["B", config.hiddenSize]))
      const { probability, token } = sample(logits, inverse, Op.gather(uniform, step))
      return {
        carried: [
          Op.reshape(token, ["B", 1]),
          Op.minimum(Op.add(positions!, one!), last!),
          growing.mask,
          growing.positions,
          ...keys,
          ...values
        ],
        collected: [token, Op.tokenLogprobs(logits, token), probability]
      }
    }
  )
  for (const [i, name] of ["token", "logprob", "probability"].entries()) Graph.output(graph, name, collected[i]!)
  const fresh = carried.slice(4).map((x) => Op.splitBy(x, 2, past.sizes, ["M", "K"])[1]!)
  Graph.output(graph, "rows", Op.concat(fresh, 0, `${2 * config.layers}*B`))
  return graph
}

/** The past as a `KvCache` feeds it; `sizes` are its columns and the new ones. */
const pastInputs = (graph: Graph.Graph, { headDim, kvHeads, layers }: ModelConfig): Attention.Past => {
  const cache = (name: string) =>
    Array.from({ length: layers }, (_, i) => Graph.input(graph, `${name}${i}`, "float32", ["B", kvHeads, "M", headDim]))
  return {
    keys: cache("key"),
    values: cache("value"),
    mask: Graph.input(graph, "past_mask", "float32", ["B", 1, 1, "M"]),
    sizes: Graph.input(graph, "sizes", "int64", [2])
  }
}

/** The runtime wants rotary tables that are no shorter than a run is wide, padding included. */
const tableRows = ({ maxPositions }: ModelConfig): number => Math.max(maxPositions, Prefill.block)

/**
 * One token for each row of logits [N, V], with its probability: the inverse of the cumulative distribution of
 * softmax(logits / temperature) at a uniform number in [0, 1).
 *
 * The running sum over the vocabulary is taken in two steps: over the sums of blocks of it, then within the block that
 * is hit. It is the slowest pass over [N, V] otherwise.
 */
export const sample = (
  logits: Graph.Value,
  inverseTemperature: Graph.Value,
  uniform: Graph.Value
): { readonly token: Graph.Value; readonly probability: Graph.Value } => {
  const { graph } = logits
  const [rows, vocabulary] = logits.shape as [Graph.Dim, number]
  const width = blockWidth(vocabulary)
  const blocks = vocabulary / width
  const probabilities = Op.softmax(Op.mul(logits, inverseTemperature))
  const sums = Op.sum(Op.reshape(probabilities, [rows, blocks, width]), [2])
  const cumulative = Op.cumsum(sums)
  // The sum of float32 probabilities is not exactly one: the last entry of the running sum is what they sum to.
  const target = Op.mul(uniform, Op.max(cumulative, [1], true))
  const block = countBelow(cumulative, target)
  const column = (x: Graph.Value): Graph.Value => Op.cast(Op.reshape(x, [rows, 1]), "int64")
  const sum = Op.gatherElements(sums, column(block))
  const before = Op.sub(Op.gatherElements(cumulative, column(block)), sum)
  // A sum less its last part is not exactly what came before. A share of 0 would take a token that has no probability.
  const least = Graph.scalar(graph, 2 ** -24)
  const one = Graph.scalar(graph, 1)
  const share = Op.minimum(Op.maximum(Op.div(Op.sub(target, before), sum), least), one)

  // 0, blocks, 2·blocks, …: where the rows begin among all blocks.
  const ones = Op.shift(Op.zerosLike(block), 1)
  const firsts = Op.scale(Op.shift(Op.cumsum(ones), -1), blocks)
  const all = Op.reshape(probabilities, [`${rows}*${blocks}`, width])
  const hit = Op.gather(all, Op.cast(Op.add(firsts, block), "int64"))
  const within = Op.cumsum(hit)
  const inside = countBelow(within, Op.mul(share, Op.max(within, [1], true)))
  return {
    token: Op.cast(Op.add(Op.scale(block, width), inside), "int64"),
    probability: Op.reshape(Op.gatherElements(hit, column(inside)), [rows])
  }
}

/** How many numbers of each row [N, K] are below the row's target [N, 1], as float32 [N]. */
const countBelow = (x: Graph.Value, target: Graph.Value): Graph.Value => {
  const [one, zero] = [Graph.scalar(x.graph, 1), Graph.scalar(x.graph, 0)]
  return Op.sum(Op.where(Op.greater(target, x), one, zero), [1])
}

/** The divisor of the vocabulary's size that is nearest to its square root. */
const blockWidth = (vocabulary: number): number => {
  let width = Math.floor(Math.sqrt(vocabulary))
  while (vocabulary % width !== 0) width--
  return width === 1 ? vocabulary : width
}
