/**
 * Trainables: the trainable parameters of a program as one flat vector.
 *
 * One vector makes an optimizer's step one pass, whatever the parameters are, and the state that a resumed training needs
 * three arrays. Parameters of one group lie side by side, so a group's learning rate and decay are of a range. Large ones
 * are read where they lie.
 */
import * as Graph from "../onnx/Graph.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
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

/** A part of the vector that a program reads or writes as one tensor: a large parameter, or smaller neighbours. */
export interface Stretch {
  readonly entries: ReadonlyArray<Entry>
  readonly offset: number
  readonly size: number
}

/** Numbers from which on a parameter is read where it lies; what is cut out of a stretch of several is copied. */
const large = 2 ** 18

/** Numbers of a stretch of several parameters at most. */
const most = 2 ** 22

/** The vector's stretches: few, as each tensor that is handed over costs more than the copy of a small one. */
export const stretches = ({ entries }: Pick<Layout, "entries">): ReadonlyArray<Stretch> => {
  const found: Array<{ readonly entries: Array<Entry>; readonly offset: number; size: number }> = []
  for (const entry of entries) {
    const last = found.at(-1)
    const joins = last !== undefined && entry.size < large && last.entries[0]!.size < large
    if (joins && last.size + entry.size <= most) {
      last.entries.push(entry)
      last.size += entry.size
    } else {
      found.push({ entries: [entry], offset: entry.offset, size: entry.size })
    }
  }
  return found
}

const shapeOf = ({ entries, size }: Stretch): ReadonlyArray<number> =>
  entries.length === 1 ? entries[0]!.shape : [size]

const nameOf = (name: string, index: number): string => `${name} ${index}`

/** A vector as inputs of a graph, one for each stretch. */
export const inputs = (graph: Graph.Graph, of: Layout, name: string): ReadonlyArray<Value> =>
  stretches(of).map((stretch, i) => Graph.input(graph, nameOf(name, i), "float32", shapeOf(stretch)))

/** Names stretches as a vector among the graph's results. */
export const outputs = (graph: Graph.Graph, name: string, values: ReadonlyArray<Value>): void =>
  values.forEach((value, i) => Graph.output(graph, nameOf(name, i), value))

/** A vector's numbers for {@link inputs}, or for {@link outputs} to be written to: parts of it, not copies. */
export const tensors = (of: Layout, vector: Float32Array, name: string): Session.Feeds =>
  Object.fromEntries(
    stretches(of).map((stretch, i) => {
      const { offset, size } = stretch
      return [nameOf(name, i), Session.float32(vector.subarray(offset, offset + size), shapeOf(stretch))]
    })
  )

/** The parameters of a vector's stretches, by name. */
export const cut = (of: Layout, vector: ReadonlyArray<Value>): Map<string, Value> =>
  new Map(
    stretches(of).flatMap(({ entries, size }, i) => {
      if (entries.length === 1) return [[entries[0]!.name, vector[i]!] as const]
      const width = commonWidth(entries)
      const parts = Op.split(
        Op.reshape(vector[i]!, [size / width, width]),
        0,
        entries.map((e) => e.size / width)
      )
      return entries.map((e, k) => [e.name, Op.reshape(parts[k]!, e.shape)] as const)
    })
  )

/** The stretches of a vector, given its parameters. */
export const join = (of: Layout, parameters: (name: string) => Value): ReadonlyArray<Value> =>
  stretches(of).map(({ entries, size }) => {
    if (entries.length === 1) return parameters(entries[0]!.name)
    const width = commonWidth(entries)
    const rows = entries.map((e) => Op.reshape(parameters(e.name), [e.size / width, width]))
    return Op.reshape(Op.concat(rows, 0), [size])
  })

/**
 * What all sizes are multiples of. A stretch is cut and joined in rows so wide: on a GPU the runtime writes a table with
 * an entry for each of the rows, at every run, and one for each number took longer than a small network's step.
 */
const commonWidth = (entries: ReadonlyArray<Entry>): number => {
  const common = (a: number, b: number): number => (b === 0 ? a : common(b, a % b))
  return entries.reduce((width, { size }) => common(width, size), 0)
}
