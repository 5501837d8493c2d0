/**
 * Plain: tensors as plain JavaScript arrays, what the tests compare graphs with, and the random ones they are fed.
 *
 * An axis has a size and perhaps a symbol; a graph is built with the symbols and run with the sizes.
 */
import { Effect } from "effect"
import * as fc from "fast-check"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Session from "../../src/onnx/Session.ts"

/** A tensor's numbers in row-major order. */
export interface Plain {
  readonly sizes: ReadonlyArray<number>
  readonly data: ReadonlyArray<number>
}

/** What a graph is fed: numbers, and the shape that the graph declares for them. */
export interface Operand extends Plain {
  readonly shape: Graph.Shape
  readonly dtype: "float32" | "int64"
}

/** A size with the symbol or number that a graph declares for it. */
export interface Axis {
  readonly size: number
  readonly dim: Graph.Dim
}

export const count = (sizes: ReadonlyArray<number>): number => sizes.reduce((a, b) => a * b, 1)

/** So many numbers that look random, of sizes up to `largest`, the same for the same seed. */
export const numbers = (length: number, seed: number, largest: number): Float32Array =>
  Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898 + seed) * (1 + ((i * 31 + seed) % largest)))

/** The coordinates of the `i`-th element. */
export const coordinates = (sizes: ReadonlyArray<number>, i: number): Array<number> => {
  const at: Array<number> = []
  for (const size of sizes.toReversed()) {
    at.unshift(i % size)
    i = Math.floor(i / size)
  }
  return at
}

/** The element at coordinates; missing leading axes and axes of size 1 repeat. */
export const get = (x: Plain, at: ReadonlyArray<number>): number => {
  const own = at.slice(at.length - x.sizes.length)
  return x.data[x.sizes.reduce((index, size, axis) => index * size + (size === 1 ? 0 : own[axis]!), 0)]!
}

/** A tensor from a function of the coordinates. */
export const tabulate = (sizes: ReadonlyArray<number>, f: (at: ReadonlyArray<number>) => number): Plain => ({
  sizes,
  data: Array.from({ length: count(sizes) }, (_, i) => f(coordinates(sizes, i)))
})

/** `f` element by element, broadcasting. */
export const zip = (f: (...xs: ReadonlyArray<number>) => number, ...inputs: ReadonlyArray<Plain>): Plain => {
  const rank = Math.max(...inputs.map((x) => x.sizes.length))
  const sizes = Array.from({ length: rank }, (_, i) =>
    Math.max(...inputs.map((x) => x.sizes[i - rank + x.sizes.length] ?? 1))
  )
  return tabulate(sizes, (at) => f(...inputs.map((x) => get(x, at))))
}

/** `f` on each row of the last axis. */
export const rows = (x: Plain, f: (row: ReadonlyArray<number>) => ReadonlyArray<number>): Plain => {
  const width = x.sizes.at(-1)!
  const parts = Array.from({ length: x.data.length / width }, (_, i) => f(x.data.slice(i * width, i * width + width)))
  return { sizes: [...x.sizes.slice(0, -1), parts[0]!.length], data: parts.flat() }
}

/** The largest difference of two tensors, relative to the largest element of the second (1 where it is smaller). */
export const distance = (a: Plain, b: Plain): number => {
  if (a.sizes.join() !== b.sizes.join()) return Infinity
  const scale = b.data.reduce((most, x) => Math.max(most, Math.abs(x)), 1)
  return a.data.reduce((worst, x, i) => Math.max(worst, Math.abs(x - b.data[i]!) / scale), 0)
}

/** A float32 operand whose declared shape is its sizes. */
export const floats = (sizes: ReadonlyArray<number>, data: ReadonlyArray<number>): Operand => ({
  sizes,
  shape: sizes,
  dtype: "float32",
  data: data.map(Math.fround)
})

/** An int64 operand whose declared shape is its sizes. */
export const integers = (sizes: ReadonlyArray<number>, data: ReadonlyArray<number>): Operand => ({
  sizes,
  shape: sizes,
  dtype: "int64",
  data
})

/** Axes, some declared by a symbol; each has a symbol of its own. */
export const axes = (minimum = 0, maximum = 3): fc.Arbitrary<ReadonlyArray<Axis>> =>
  fc
    .array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.boolean()), { minLength: minimum, maxLength: maximum })
    .map((drawn) => drawn.map(([size, symbolic], i) => ({ size, dim: symbolic ? "ABCDEFG"[i]! : size })))

/** Numbers of a range, by default some around zero. */
export const number = (low = -2, high = 2): fc.Arbitrary<number> =>
  fc.double({ min: low, max: high, noNaN: true, noDefaultInfinity: true }).map((x) => Math.fround(x) + 0)

/** A number at least a quarter away from zero. */
export const awayFromZero: fc.Arbitrary<number> = fc
  .tuple(number(0.25, 2), fc.boolean())
  .map(([x, negative]) => (negative ? -x : x))

/** An operand of given axes. */
export const operand = (of: ReadonlyArray<Axis>, element: fc.Arbitrary<number> = number()): fc.Arbitrary<Operand> => {
  const sizes = of.map((axis) => axis.size)
  const length = count(sizes)
  return fc
    .array(element, { minLength: length, maxLength: length })
    .map((data) => ({ sizes, shape: of.map((axis) => axis.dim), dtype: "float32", data }))
}

/** Indices below `limit`. */
export const indices = (of: ReadonlyArray<Axis>, limit: number): fc.Arbitrary<Operand> =>
  operand(of, fc.integer({ min: 0, max: limit - 1 })).map((x) => ({ ...x, dtype: "int64" }))

/** Axes that broadcast against the given ones: leading ones left out, others of size 1. */
export const narrowed = (of: ReadonlyArray<Axis>): fc.Arbitrary<ReadonlyArray<Axis>> =>
  fc
    .tuple(
      fc.integer({ min: 0, max: of.length }),
      fc.array(fc.boolean(), { minLength: of.length, maxLength: of.length })
    )
    .map(([dropped, single]) => of.map((axis, i) => (single[i] ? { size: 1, dim: 1 } : axis)).slice(dropped))

/** Several operands that broadcast against each other, one of them of the full shape. */
export const broadcasting = (...elements: ReadonlyArray<fc.Arbitrary<number>>): fc.Arbitrary<Array<Operand>> =>
  fc.tuple(axes(), fc.integer({ min: 0, max: elements.length - 1 })).chain(([of, full]) =>
    fc.tuple(
      ...elements.map((element, i) => {
        const own = i === full ? fc.constant(of) : narrowed(of)
        return own.chain((some) => operand(some, element))
      })
    )
  )

/** The operands as inputs `x0`, `x1`, … of a graph. */
export const inputs = (graph: Graph.Graph, operands: ReadonlyArray<Operand>): ReadonlyArray<Graph.Value> =>
  operands.map((o, i) => Graph.input(graph, `x${i}`, o.dtype, o.shape))

export const tensor = (o: Plain & { readonly dtype: "float32" | "int64" }): Session.Tensor =>
  o.dtype === "int64" ? Session.int64(o.data, o.sizes) : Session.float32(Float32Array.from(o.data), o.sizes)

/** The operands as feeds of those inputs. */
export const feeds = (operands: ReadonlyArray<Operand>): Session.Feeds =>
  Object.fromEntries(operands.map((o, i) => [`x${i}`, tensor(o)]))

export const plain = (t: Session.Tensor): Plain => ({
  sizes: t.dims,
  data: Array.from(t.data as ArrayLike<number | bigint>, Number)
})

/** A session of one thread, small as its graph. */
export const session = (graph: Graph.Graph) => Session.make(graph, { threads: 1 })

/** What a graph gives for operands: built, compiled, run once and released. */
export const run = (
  operands: ReadonlyArray<Operand>,
  build: (...values: ReadonlyArray<Graph.Value>) => Graph.Value | ReadonlyArray<Graph.Value>
): Effect.Effect<ReadonlyArray<Plain>, Session.SessionError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const graph = Graph.make("plain")
      const built = build(...inputs(graph, operands))
      const values = Array.isArray(built) ? (built as ReadonlyArray<Graph.Value>) : [built as Graph.Value]
      values.forEach((value, i) => Graph.output(graph, `y${i}`, value))
      const compiled = yield* session(graph)
      const results = yield* compiled.run(feeds(operands))
      return values.map((_, i) => plain(results[`y${i}`]!))
    })
  )

/** Holds an effectful property for `runs` random cases. */
export const forAll = <A>(
  arbitrary: fc.Arbitrary<A>,
  runs: number,
  property: (a: A) => Effect.Effect<unknown, unknown>
): Effect.Effect<void> =>
  Effect.promise(() =>
    fc.assert(
      fc.asyncProperty(arbitrary, (a) => Effect.runPromise(Effect.asVoid(property(a)))),
      { numRuns: runs }
    )
  )
