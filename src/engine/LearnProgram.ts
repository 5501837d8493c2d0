/**
 * LearnProgram: forward pass, gradients and AdamW as graphs.
 *
 * `step` does all in one run. A batch that does not fit runs `accumulate` for each micro-batch and then `apply`.
 * Trainables, moments and the gradient are flat vectors (see `Trainables.ts`).
 */
import type { Checkpoint } from "../model/Checkpoint.ts"
import * as Transformer from "../model/Transformer.ts"
import * as Gradient from "../onnx/Gradient.ts"
import * as Graph from "../onnx/Graph.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import * as Optimizer from "../onnx/Optimizer.ts"
import type { Objective } from "./Objective.ts"
import * as Program from "./Program.ts"
import * as Trainables from "./Trainables.ts"

/** What is learnt, and how its parameters enter the network. */
export interface Trained {
  readonly layout: Trainables.Layout
  /**
   * The factor on B A by the path of the map; trainables with names `*.lora_A` and `*.lora_B` are adapters of the map
   * before the dot.
   */
  readonly scales: ReadonlyMap<string, number>
}

/** Names of the heads among the trainables: the reward model's and the value function's, both [1, hidden]. */
export const heads = { score: "score", value: "value_head" } as const

/** A compiled objective's names of metrics, in the order of the results. */
export interface LearnGraph {
  readonly graph: Graph.Graph
  readonly metrics: ReadonlyArray<string>
}

interface Loss {
  readonly gradient: Value
  readonly metrics: Readonly<Record<string, Value>>
}

/** Adds the network, the objective and the gradient of the trainable vector. */
const loss = (
  graph: Graph.Graph,
  checkpoint: Checkpoint,
  trained: Trained,
  objective: Objective,
  vector: Value
): Loss => {
  const trainable = Trainables.values(trained.layout, vector)
  const adapted = { values: trainable, scales: trained.scales }
  const { config, parameters } = Program.network(graph, checkpoint, adapted, "merged")
  const { hidden } = Transformer.build(config, parameters, Program.tokenInputs(graph), config.maxPositions)
  const at = once(() => Program.pick(hidden, Graph.input(graph, "at", "int64", ["N"])))
  const result = objective.build(
    {
      logprobs: () =>
        Op.tokenLogprobs(Transformer.logits(config, parameters, at()), Graph.input(graph, "targets", "int64", ["N"])),
      values: () => Program.head(Op.detach(at()), trainable.get(heads.value)!),
      scores: () =>
        Program.head(Program.pick(hidden, Graph.input(graph, "last", "int64", ["S"])), trainable.get(heads.score)!)
    },
    Object.fromEntries(
      Object.entries(objective.inputs).map(([name, { dtype, shape }]) => [name, Graph.input(graph, name, dtype, shape)])
    )
  )
  const leaves = trained.layout.entries.map((e) => trainable.get(e.name)!)
  const gradients = Gradient.gradients(result.loss, leaves)
  return {
    gradient: Trainables.flatten(trained.layout, gradients),
    metrics: { loss: result.loss, ...result.metrics }
  }
}

/** Adds clipping and AdamW and names the results. */
const update = (graph: Graph.Graph, layout: Trainables.Layout, vector: Value, gradient: Value): void => {
  const clipped = Optimizer.clipByNorm(gradient, Graph.input(graph, "max_grad_norm", "float32", []))
  const updated = Optimizer.adamw(Optimizer.defaults, {
    parameters: vector,
    gradient: clipped.gradient,
    m: Trainables.input(graph, layout, "m"),
    v: Trainables.input(graph, layout, "v"),
    learningRate: Trainables.spread(layout, Graph.input(graph, "learning_rates", "float32", [layout.groups.length])),
    weightDecay: Trainables.spread(layout, Graph.input(graph, "weight_decays", "float32", [layout.groups.length])),
    correction1: Graph.input(graph, "correction1", "float32", []),
    correction2: Graph.input(graph, "correction2", "float32", [])
  })
  Graph.output(graph, "grad_norm", clipped.norm)
  Graph.output(graph, "parameters_out", updated.parameters)
  Graph.output(graph, "m_out", updated.m)
  Graph.output(graph, "v_out", updated.v)
}

const report = (graph: Graph.Graph, metrics: Readonly<Record<string, Value>>): ReadonlyArray<string> => {
  for (const [name, value] of Object.entries(metrics)) Graph.output(graph, `metric_${name}`, value)
  return Object.keys(metrics)
}

/** One optimizer step from one batch. */
export const step = (checkpoint: Checkpoint, trained: Trained, objective: Objective): LearnGraph => {
  const graph = Graph.make(`learn ${objective.name}`)
  const vector = Trainables.input(graph, trained.layout, "parameters")
  const { gradient, metrics } = loss(graph, checkpoint, trained, objective, vector)
  update(graph, trained.layout, vector, gradient)
  return { graph, metrics: report(graph, metrics) }
}

/** The gradient of one micro-batch, added to the one so far. */
export const accumulate = (checkpoint: Checkpoint, trained: Trained, objective: Objective): LearnGraph => {
  const graph = Graph.make(`accumulate ${objective.name}`)
  const vector = Trainables.input(graph, trained.layout, "parameters")
  const { gradient, metrics } = loss(graph, checkpoint, trained, objective, vector)
  Graph.output(graph, "gradient_out", Op.add(gradient, Trainables.input(graph, trained.layout, "gradient")))
  return { graph, metrics: report(graph, metrics) }
}

/** An optimizer step from an accumulated gradient. */
export const apply = (trained: Trained): Graph.Graph => {
  const graph = Graph.make("apply gradient")
  const vector = Trainables.input(graph, trained.layout, "parameters")
  update(graph, trained.layout, vector, Trainables.input(graph, trained.layout, "gradient"))
  return graph
}

const once = <A>(make: () => A): (() => A) => {
  let made: { readonly value: A } | undefined
  return () => (made ??= { value: make() }).value
}
