/**
 * Trainables: the trainable parameters of a program as one flat vector.
 *
 * One vector makes the optimizer a handful of operators, whatever the parameters are, and the state that a resumed
 * training needs three arrays. A program reads each parameter where it lies in the vector. Those of one group lie side
 * by side, so a group's learning rate and decay are of a range.
 */
import * as Graph from "../onnx/Graph.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Session from "../onnx/Session.ts"

/** A trainable tensor. */
export interface Parameter {
  readonly name: string
  readonly shape: ReadonlyArray<number>
  /** Parameters of a group share learning rate and weight decay. */
  readonly group: string
}

/** A parameter's place in the vector. */
export interface Entry extends Parameter {
  readonly offset: number
  readonly size: number
}

/** The vector's layout. */
export interface Layout {
  readonly entries: ReadonlyArray<Entry>
  readonly groups: ReadonlyArray<{ readonly name: string; readonly size: number }>
  readonly size: number
}

/** Lays the parameters out, group after group in order of first appearance. */
export const layout = (parameters: Iterable<Parameter>): Layout => {
  const byGroup = Map.groupBy(parameters, (p) => p.group)
  const entries: Array<Entry> = []
  const groups: Array<{ name: string; size: number }> = []
  let offset = 0
  for (const [name, members] of byGroup) {
    const start = offset
    for (const p of members) {
      const size = p.shape.reduce((a, b) => a * b, 1)
      entries.push({ ...p, offset, size })
      offset += size
    }
    groups.push({ name, size: offset - start })
  }
  return { entries, groups, size: offset }
}

/** The numbers of each parameter, as views into the vector. */
export const views = (of: Layout, vector: Float32Array): Map<string, Float32Array> =>
  new Map(of.entries.map((e) => [e.name, vector.subarray(e.offset, e.offset + e.size)]))

/** A vector from the parameters' numbers. */
export const pack = (of: Layout, numbers: (entry: Entry) => Float32Array): Float32Array => {
  const vector = new Float32Array(of.size)
  for (const entry of of.entries) {
    const data = numbers(entry)
    if (data.length !== entry.size) throw new Error(`${entry.name} has ${data.length} numbers, not ${entry.size}`)
    vector.set(data, entry.offset)
  }
  return vector
}

/** The parameters as inputs of a graph, by name; `label` makes the inputs' names of theirs. */
export const inputs = (
  graph: Graph.Graph,
  of: Pick<Layout, "entries">,
  label: (name: string) => string = (name) => name
): Map<string, Value> => new Map(of.entries.map((e) => [e.name, Graph.input(graph, label(e.name), "float32", e.shape)]))

/** The feeds of {@link inputs}: parts of the vector, not copies. */
export const feeds = (
  of: Pick<Layout, "entries">,
  vector: Float32Array,
  label: (name: string) => string = (name) => name
): Session.Feeds =>
  Object.fromEntries(
    of.entries.map((e) => [label(e.name), Session.float32(vector.subarray(e.offset, e.offset + e.size), e.shape)])
  )
