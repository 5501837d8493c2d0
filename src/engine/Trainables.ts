/**
 * Trainables: the trainable parameters of a program as one flat vector.
 *
 * One vector makes the optimizer a handful of operators, the clipping norm one reduction, and the state that a resumed
 * training needs three arrays. Parameters of one group lie side by side, so a group's learning rate and decay are
 * ranges of the vector.
 */
import * as Graph from "../onnx/Graph.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"

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

/** The parameters as values of a graph, cut out of its vector [P]. */
export const values = (of: Layout, vector: Value): Map<string, Value> => {
  const width = commonWidth(of)
  const parts =
    of.entries.length === 1
      ? [vector]
      : Op.split(
          Op.reshape(vector, [of.size / width, width]),
          0,
          of.entries.map((e) => e.size / width)
        )
  return new Map(of.entries.map((e, i) => [e.name, Op.reshape(parts[i]!, e.shape)]))
}

/**
 * What all sizes are multiples of. The vector is cut and joined in rows so wide: on a GPU the runtime writes a table
 * with an entry for each of the rows, at every run, and one for each number took longer than a small network's step.
 */
const commonWidth = ({ entries }: Layout): number => {
  const common = (a: number, b: number): number => (b === 0 ? a : common(b, a % b))
  return entries.reduce((width, { size }) => common(width, size), 0)
}

/** One number for each group [G] as one for each parameter [P] (a scalar where there is one group). */
export const spread = (of: Layout, numbers: Value): Value => {
  if (of.groups.length === 1) return Op.reshape(numbers, [])
  const parts = Op.split(
    numbers,
    0,
    of.groups.map(() => 1)
  )
  return Op.concat(
    parts.map((part, i) => Op.expand(part, [of.groups[i]!.size])),
    0
  )
}

/** A flat gradient [P] from those of the parameters, in the layout's order. */
export const flatten = (of: Layout, gradients: ReadonlyArray<Value>): Value => {
  const width = commonWidth(of)
  const rows = gradients.map((g, i) => Op.reshape(g, [of.entries[i]!.size / width, width]))
  return Op.reshape(rows.length === 1 ? rows[0]! : Op.concat(rows, 0), [of.size])
}

/** The vector of a graph, as an input. */
export const input = (graph: Graph.Graph, of: Layout, name: string): Value =>
  Graph.input(graph, name, "float32", [of.size])
