/** ScoreProgram: log-probabilities of given tokens, or the scores of whole sequences, as graphs without a past. */
import type { Checkpoint } from "../model/Checkpoint.ts"
import * as Transformer from "../model/Transformer.ts"
import * as Graph from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import * as Adapters from "./Adapters.ts"
import { heads } from "./LearnProgram.ts"
import * as Program from "./Program.ts"

/** What is asked of a sequence: log-probabilities of tokens, or what a head of one row makes of a hidden state. */
export type Kind = "logprobs" | "score" | "value"

const network = (graph: Graph.Graph, checkpoint: Checkpoint, adapter: Adapters.Adapter | undefined) => {
  const { config, parameters } = Program.network(graph, checkpoint, Adapters.inputs(graph, adapter), "merged")
  const { hidden } = Transformer.build(config, parameters, Program.tokenInputs(graph), config.maxPositions)
  return { config, parameters, picked: Program.pick(hidden, Graph.input(graph, "at", "int64", ["N"])) }
}

/** The result `out` [N]: for each flat position `at`, log p of `targets` there, or the head's scalar. */
export const build = (checkpoint: Checkpoint, adapter: Adapters.Adapter | undefined, kind: Kind): Graph.Graph => {
  const graph = Graph.make(kind)
  const { config, parameters, picked } = network(graph, checkpoint, adapter)
  if (kind === "logprobs") {
    const logits = Transformer.logits(config, parameters, picked)
    Graph.output(graph, "out", Op.tokenLogprobs(logits, Graph.input(graph, "targets", "int64", ["N"])))
  } else {
    const weight = Graph.input(graph, "head", "float32", [1, config.hiddenSize])
    Graph.output(graph, "out", Program.head(picked, weight))
  }
  return graph
}

/** The name of a head among an adapter's parameters. */
export const headOf = { score: heads.score, value: heads.value } as const
