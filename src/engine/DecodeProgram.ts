/**
 * DecodeProgram: one decoding run as a graph.
 *
 * It attends over the past, which is fed without a copy, and over the new tokens, samples one token for each row, and
 * returns that token and the new rows of keys and values alone: outputs are what costs. The same graph prefills
 * prompts (many new tokens, no past) and continues them (one new token).
 */
import type { Checkpoint } from "../model/Checkpoint.ts"
import * as Transformer from "../model/Transformer.ts"
import * as Graph from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import * as Adapters from "./Adapters.ts"
import * as Program from "./Program.ts"

/** The graph, for a base with an adapter's shape or without one. */
export const build = (checkpoint: Checkpoint, adapter: Adapters.Adapter | undefined): Graph.Graph => {
  const graph = Graph.make(adapter === undefined ? "decode" : "decode with adapter")
  const { config, parameters } = Program.network(graph, checkpoint, Adapters.inputs(graph, adapter), "factored")
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
  const last = Program.pick(hidden, Graph.input(graph, "last", "int64", ["B"]))
  const logits = Transformer.logits(config, parameters, last)
  const token = sample(
    logits,
    Graph.input(graph, "inverse_temperature", "float32", ["B", 1]),
    Graph.input(graph, "greedy", "bool", ["B"]),
    Graph.input(graph, "uniform", "float32", ["B", 1])
  )
  Graph.output(graph, "token", token)
  Graph.output(graph, "logprob", Op.tokenLogprobs(logits, token))
  Graph.output(graph, "rows", Op.concat([...keys, ...values], 0, `${2 * config.layers}*B`))
  return graph
}

/**
 * One token for each row of logits [B, V]: the largest where `greedy`, else the inverse of the cumulative distribution
 * of softmax(logits / temperature) at a uniform number in [0, 1).
 */
const sample = (
  logits: Graph.Value,
  inverseTemperature: Graph.Value,
  greedy: Graph.Value,
  uniform: Graph.Value
): Graph.Value => {
  const graph = logits.graph
  const cumulative = Op.cumsum(Op.softmax(Op.mul(logits, inverseTemperature)))
  // The sum of float32 probabilities is not exactly one: the last entry of the running sum is what they sum to.
  const total = Op.max(cumulative, [-1], true)
  const below = Op.where(Op.greater(Op.mul(uniform, total), cumulative), Graph.scalar(graph, 1), Graph.scalar(graph, 0))
  const drawn = Op.cast(Op.sum(below, [-1]), "int64")
  return Op.where(greedy, Op.argmax(logits), drawn)
}
