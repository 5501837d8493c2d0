/**
 * ScoreProgram: log-probabilities of given tokens, or the scores of whole sequences, as graphs without a past.
 *
 * The network and the output projection are graphs of their own, so that logits, which are the largest thing by far,
 * exist for a few tokens at a time.
 */
import type { Checkpoint } from "../model/Checkpoint.ts"
import type { ModelConfig } from "../model/ModelConfig.ts"
import * as Transformer from "../model/Transformer.ts"
import * as Graph from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import * as Session from "../onnx/Session.ts"
import * as Adapters from "./Adapters.ts"
import * as Program from "./Program.ts"

/** What is asked of a sequence: log-probabilities of tokens, or what a head of one row makes of a hidden state. */
export type Kind = "logprobs" | "score" | "value"

/** Rows of more tokens are long: the scores of their attention must not exist together. */
const longest = 1024

/**
 * What the rows of a run are: `short` or `long` ones, each a sequence, or a family of rows in one sequence that have
 * their beginning in common (see `Layout`).
 */
export type Form = "short" | "long" | "family"

/** The form of a row by itself. */
export const formOf = (row: ReadonlyArray<number>): Form => (row.length > longest ? "long" : "short")

/**
 * Whether a row's results would depend on how many rows are computed with it. Few rows are shared among threads by
 * columns, in whole blocks of 16: where a thread gets no more than 4 of them, the runtime sums products that it has not
 * packed in longer pieces. Such a network is small, so its weights are packed, and its adapters are summed in one order.
 */
export const isNarrow = (
  { headDim, hiddenSize, intermediateSize, kvHeads }: ModelConfig,
  threads: number = Session.mostThreads
): boolean => Math.floor(Math.ceil(Math.min(hiddenSize, intermediateSize, kvHeads * headDim) / 16) / threads) <= 4

const network = (graph: Graph.Graph, checkpoint: Checkpoint, adapter: Adapters.Adapter | undefined, form: Form) => {
  const adaptation = isNarrow(checkpoint.config) ? "steady" : "merged"
  const { config, parameters } = Program.network(graph, checkpoint, Adapters.inputs(graph, adapter), adaptation)
  const input: Transformer.Input =
    form === "family"
      ? Program.raggedInputs(graph, true)
      : {
          ids: Graph.input(graph, "ids", "int64", ["B", "T"]),
          positions: Graph.input(graph, "positions", "int64", ["B", "T"]),
          mask: undefined,
          whole: {
            last: Graph.input(graph, "last", "int32", ["B"]),
            total: Graph.input(graph, "total", "int32", []),
            blockwise: form === "long"
          }
        }
  const { hidden } = Transformer.build(config, parameters, input, config.maxPositions)
  // Picked at the end, as the last layer must not see one row alone: see `Program.head`.
  return { config, parameters, picked: Transformer.pick(hidden(), Graph.input(graph, "at", "int64", ["N"])) }
}

/**
 * The length that rows of a run are padded to: that of the longest, and of a single token two, as the runtime multiplies
 * one alone by another kernel than several.
 */
export const lengthOf = (rows: ReadonlyArray<ReadonlyArray<number>>): number =>
  rows.reduce((most, row) => Math.max(most, row.length), 2)

/** Token rows padded on the right to one length, and the flat positions asked for, as the feeds of the network. */
export const feeds = (rows: ReadonlyArray<ReadonlyArray<number>>, at: ReadonlyArray<number>): Session.Feeds => {
  const length = lengthOf(rows)
  const { ids, positions } = Program.tokenFeeds(rows, length)
  return {
    ids: ids!,
    positions: positions!,
    last: new Session.Tensor("int32", new Int32Array(rows.length).fill(length - 1), [rows.length]),
    total: new Session.Tensor("int32", new Int32Array([length]), []),
    at: Session.int64(at, [at.length])
  }
}

/** The hidden states at flat positions `at`: `hidden` [N, width]. */
export const hidden = (checkpoint: Checkpoint, adapter: Adapters.Adapter | undefined, form: Form): Graph.Graph => {
  const graph = Graph.make("hidden states")
  Graph.output(graph, "hidden", network(graph, checkpoint, adapter, form).picked)
  return graph
}

/**
 * log p of `targets` [N] after the hidden states [N, width], of logits divided by `temperature`: `out` [N].
 *
 * The temperature is fed: a graph for each would hold the projection once more for every one that is ever asked for.
 */
export const projection = (checkpoint: Checkpoint, adapter: Adapters.Adapter | undefined): Graph.Graph => {
  const graph = Graph.make("log-probabilities")
  const { config, parameters } = Program.network(graph, checkpoint, Adapters.inputs(graph, adapter), "merged")
  const states = Graph.input(graph, "hidden", "float32", ["N", config.hiddenSize])
  const temperature = Graph.input(graph, "temperature", "float32", [])
  const logits = Transformer.logits(config, parameters, states, temperature)
  Graph.output(graph, "out", Op.tokenLogprobs(logits, Graph.input(graph, "targets", "int64", ["N"])))
  return graph
}

/** What the adapter's head makes of the hidden states at flat positions `at`: `out` [N]. */
export const scalar = (checkpoint: Checkpoint, adapter: Adapters.Adapter | undefined, form: Form): Graph.Graph => {
  const graph = Graph.make("scores")
  const { config, picked } = network(graph, checkpoint, adapter, form)
  Graph.output(graph, "out", Program.head(picked, Graph.input(graph, "head", "float32", [1, config.hiddenSize])))
  return graph
}
