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
import * as Transformer from "../model/Transformer.ts"
import * as Graph from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import * as Adapters from "./Adapters.ts"
import * as Program from "./Program.ts"

/** The graph, for a base with an adapter's shape or without one. */
export const build = (checkpoint: Program.Base, adapter: Adapters.Adapter | undefined): Graph.Graph => {
  const graph = Graph.make(adapter === undefined ? "decode" : "decode with adapter")
  const { config, parameters } = Program.network(graph, checkpoint, Adapters.inputs(graph, adapter), "steady")
  const cache = ["B", config.kvHeads, "M", config.headDim]
  const layers = Array.from({ length: config.layers }, (_, i) => i)
  const input: Transformer.Input = {
    ...Program.tokenInputs(graph),
    past: {
      keys: layers.map((i) => Graph.input(graph, `key${i}`, "float32", cache)),
      values: layers.map((i) => Graph.input(graph, `value${i}`, "float32", cache)),
      mask: Graph.input(graph, "past_mask", "float32", ["B", 1, 1, "M"]),
      sizes: Graph.input(graph, "sizes", "int64", [2])
    }
  }
  const { hidden, keys, values } = Transformer.build(config, parameters, input, config.maxPositions)
  const last = Program.pick(hidden, Graph.input(graph, "last", "int64", ["N"]))
  const logits = Transformer.logits(config, parameters, last)
  const { probability, token } = sample(
    logits,
    Graph.input(graph, "inverse_temperature", "float32", ["N", 1]),
    Graph.input(graph, "greedy", "bool", ["N"]),
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
 * One token for each row of logits [N, V], with its probability: the largest where `greedy`, else the inverse of the
 * cumulative distribution of softmax(logits / temperature) at a uniform number in [0, 1).
 */
const sample = (
  logits: Graph.Value,
  inverseTemperature: Graph.Value,
  greedy: Graph.Value,
  uniform: Graph.Value
): { readonly token: Graph.Value; readonly probability: Graph.Value } => {
  const graph = logits.graph
  const probabilities = Op.softmax(Op.mul(logits, inverseTemperature))
  const cumulative = Op.cumsum(probabilities)
  // The sum of float32 probabilities is not exactly one: the last entry of the running sum is what they sum to.
  const total = Op.max(cumulative, [-1], true)
  const below = Op.where(Op.greater(Op.mul(uniform, total), cumulative), Graph.scalar(graph, 1), Graph.scalar(graph, 0))
  const drawn = Op.cast(Op.sum(below, [-1]), "int64")
  const token = Op.where(greedy, Op.argmax(logits), drawn)
  const probability = Op.gatherElements(probabilities, Op.reshape(token, [...token.shape, 1]))
  return { token, probability: Op.reshape(probability, token.shape) }
}
