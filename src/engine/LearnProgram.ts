/**
 * LearnProgram: forward pass and gradients as graphs.
 *
 * A batch runs `accumulate` for each of its micro-batches; `measure` gives loss and metrics alone. Batch size and length
 * are symbols, so one graph serves every shape. Parameters and gradients are fed where they lie in flat vectors (see
 * `Trainables.ts`).
 */
import * as Transformer from "../model/Transformer.ts"
import * as Gradient from "../onnx/Gradient.ts"
import * as Graph from "../onnx/Graph.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import type { Base } from "./Base.ts"
import * as HeadLoss from "./HeadLoss.ts"
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

/** How a learning graph is laid out. */
export interface Shape {
  /** The log-probabilities are computed in so many chunks (see `HeadLoss`). */
  readonly chunks: number
  /** Whether sequences may share beginnings (see `Layout`). */
  readonly shares: boolean
  /** Layers are computed again in the backward pass: a third more work, and of each layer only its input is kept. */
  readonly recompute?: boolean
  /** What logits are divided by for log-probabilities; 1 if not given. */
  readonly temperature?: number
}

/** What a step reports beside the metrics of an objective, in the place of which it would stand. */
const reported = new Set(["loss", "grad_norm", "step", "steps", "learning_rate", "tokens", "seconds"])

/** The network with its trainable vector and an objective's loss and metrics. */
const objectiveOf = (
  graph: Graph.Graph,
  checkpoint: Base,
  trained: Trained,
  objective: Objective,
  shape: Shape,
  learns: boolean
) => {
  const trainable = Trainables.cut(trained.layout, Trainables.inputs(graph, trained.layout, vectors.parameters))
  const adapted = { values: trainable, scales: trained.scales }
  const { config, parameters } = Program.network(graph, checkpoint, adapted, "factored")
  const input = Program.raggedInputs(graph, shape.shares)
  const { hidden } = Transformer.build(config, parameters, input, config.maxPositions)
  const at = once(() => hidden(Graph.input(graph, "at", "int64", ["N"])))
  const projection = config.tieEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"
  const head = (kind: keyof typeof heads, maker: string): Value =>
    trainable.get(heads[kind]) ??
    Graph.fail(graph, "objective", [], `what is trained has no ${kind} head; ${maker} adds one with { ${kind}: true }`)
  const result = objective.build(
    {
      logprobs: once(() => {
        const tempered = Transformer.tempered(config, at(), shape.temperature ?? 1)
        return HeadLoss.logprobs(tempered.hidden, Graph.input(graph, "targets", "int64", ["N"]), {
          chunks: shape.chunks,
          projection: Transformer.projection(config, parameters),
          cap: tempered.config.logitSoftCap,
          learns: !learns ? "nothing" : (trainable.get(projection) ?? "hidden")
        })
      }),
      values: once(() => Program.head(Op.detach(at()), head("value", "Adapters.fromLora"))),
      scores: once(() => Program.head(hidden(Graph.input(graph, "last", "int64", ["S"])), head("score", "Lora.init")))
    },
    Object.fromEntries(
      Object.entries(objective.inputs).map(([name, { dtype, shape }]) => [name, Graph.input(graph, name, dtype, shape)])
    )
  )
  const taken = Object.keys(result.metrics).find((name) => reported.has(name))
  if (taken !== undefined) {
    Graph.fail(
      graph,
      "objective",
      [],
      `no metric can have the name ${taken}, under which a step reports a number of its own`
    )
  }
  return { input, loss: result.loss, trainable, metrics: { loss: result.loss, ...result.metrics } }
}

const report = (graph: Graph.Graph, metrics: Readonly<Record<string, Value>>): ReadonlyArray<string> => {
  for (const [name, value] of Object.entries(metrics)) {
    if (value.shape.length !== 0 || value.dtype !== "float32") {
      Graph.fail(graph, "objective", [value], `${name} must be a float32 scalar`)
    }
    Graph.output(graph, `metric_${name}`, value)
  }
  return Object.keys(metrics)
}

const layerOf = ({ label }: Graph.Node): string | undefined => /^layer\d+/.exec(label)?.[0]

/** The vectors of a program: what it reads, and the gradient so far with that of one more micro-batch. */
export const vectors = { parameters: "parameters", gradient: "gradient", sum: "gradient_out" } as const

/**
 * The gradient of one micro-batch, added to the one so far. What was so far is read where it is added and nowhere else,
 * so the sum may be written in its place.
 */
export const accumulate = (checkpoint: Base, trained: Trained, objective: Objective, shape: Shape): LearnGraph => {
  const graph = Graph.make(`learn ${objective.name}`)
  const { layout } = trained
  const { input, loss, metrics, trainable } = objectiveOf(graph, checkpoint, trained, objective, shape, true)
  const before = Trainables.inputs(graph, layout, vectors.gradient)
  const gradients = Gradient.gradients(
    loss,
    layout.entries.map((e) => trainable.get(e.name)!),
    shape.recompute === true ? { segment: layerOf, from: [input.ids] } : undefined
  )
  const own = new Map(layout.entries.map(({ name }, i) => [name, gradients[i]!]))
  const joined = Trainables.join(layout, (name) => own.get(name)!)
  Trainables.outputs(
    graph,
    vectors.sum,
    joined.map((gradient, i) => Op.add(gradient, before[i]!))
  )
  return { graph, metrics: report(graph, metrics) }
}

/** Loss and metrics of one micro-batch, without a gradient. */
export const measure = (checkpoint: Base, trained: Trained, objective: Objective, shape: Shape): LearnGraph => {
  const graph = Graph.make(`measure ${objective.name}`)
  const { metrics } = objectiveOf(graph, checkpoint, trained, objective, shape, false)
  return { graph, metrics: report(graph, metrics) }
}

const once = <A>(make: () => A): (() => A) => {
  let made: { readonly value: A } | undefined
  return () => (made ??= { value: make() }).value
}
