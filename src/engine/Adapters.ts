/**
 * Adapters: the low-rank updates that one base serves, by name.
 *
 * An adapter's numbers are one flat vector, the same that its learner updates, so what is learnt is what is sampled
 * from, without a copy. Layouts are those of `Trainables`.
 */
import type * as Lora from "../model/Lora.ts"
import type { ModelConfig } from "../model/ModelConfig.ts"
import * as Graph from "../onnx/Graph.ts"
import * as Session from "../onnx/Session.ts"
import { heads } from "./LearnProgram.ts"
import type * as Program from "./Program.ts"
import * as Trainables from "./Trainables.ts"

/** An adapter in the engine. */
export interface Adapter {
  readonly config: Lora.LoraConfig
  readonly taskType: Lora.TaskType
  /** The factor on B A of each adapted map, by its path. */
  readonly scales: ReadonlyMap<string, number>
  readonly layout: Trainables.Layout
  vector: Float32Array
}

/** The groups of an adapter's parameters; the value head learns at a rate of its own. */
export const groups = { adapter: "adapter", value: "value" } as const

/** Rates of a step of a policy: its adapter's, and those of its value head. */
export const policyRates = (
  { groups: of }: Trainables.Layout,
  rates: { readonly learningRate: number; readonly valueLearningRate: number; readonly weightDecay: number }
) => ({
  learningRates: of.map(({ name }) => (name === groups.value ? rates.valueLearningRate : rates.learningRate)),
  weightDecays: of.map(() => rates.weightDecay)
})

/**
 * An engine's adapter from that of a file. With `value`, a value head of zeros is added, which is trained with the
 * policy and never saved with it.
 */
export const fromLora = (
  adapter: Lora.Adapter,
  model: ModelConfig,
  options: { readonly value?: boolean } = {}
): Adapter => {
  const layout = Trainables.layout([
    ...Array.from(adapter.tensors, ([name, { shape }]) => ({ name, shape, group: groups.adapter })),
    ...(options.value === true ? [{ name: heads.value, shape: [1, model.hiddenSize], group: groups.value }] : [])
  ])
  const vector = Trainables.pack(layout, (e) => adapter.tensors.get(e.name)?.data ?? new Float32Array(e.size))
  return { config: adapter.config, taskType: adapter.taskType, scales: adapter.scales, layout, vector }
}

/** What a file holds of it: everything but the value head. */
export const toLora = (adapter: Adapter): Lora.Adapter => {
  const views = Trainables.views(adapter.layout, adapter.vector)
  return {
    config: adapter.config,
    taskType: adapter.taskType,
    scales: adapter.scales,
    tensors: new Map(
      adapter.layout.entries
        .filter((e) => e.name !== heads.value)
        .map((e) => [e.name, { shape: [...e.shape], data: views.get(e.name)!.slice() }])
    )
  }
}

/** The shape of an adapter: adapters of one shape are served by one compiled graph. */
export const key = (adapter: Adapter | undefined): string =>
  adapter === undefined
    ? ""
    : [
        ...adapter.layout.entries.map((e) => `${e.name}[${e.shape.join(",")}]`),
        ...Array.from(adapter.scales, ([path, scale]) => `${path}*${scale}`)
      ].join(" ")

/** What enters the network: everything but the heads, which are applied to its results. */
const entries = (adapter: Adapter): ReadonlyArray<Trainables.Entry> =>
  adapter.layout.entries.filter((e) => e.name !== heads.score && e.name !== heads.value)

/** Whether an adapter brings an output projection of its own. */
export const projects = (adapter: Adapter): boolean =>
  adapter.layout.entries.some((e) => e.name === "lm_head.weight" || e.name === "model.embed_tokens.weight")

/** The parameters of an adapter as inputs of a graph. */
export const inputs = (graph: Graph.Graph, adapter: Adapter | undefined): Program.Adapted => {
  if (adapter === undefined) return { values: new Map(), scales: new Map() }
  const values = entries(adapter).map((e) => [e.name, Graph.input(graph, e.name, "float32", e.shape)] as const)
  return { values: new Map(values), scales: adapter.scales }
}

/** The feeds of {@link inputs}. */
export const feeds = (adapter: Adapter): Session.Feeds => {
  const views = Trainables.views(adapter.layout, adapter.vector)
  return Object.fromEntries(entries(adapter).map((e) => [e.name, Session.float32(views.get(e.name)!, e.shape)]))
}
