/** Every operator against a plain JavaScript computation of the same, in double precision. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import * as Graph from "../../src/onnx/Graph.ts"
import type { Value } from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Plain from "./Plain.ts"

const runs = 12

/** The graph's results are those of the plain function, for all operands. */
const agrees = (
  arbitrary: fc.Arbitrary<ReadonlyArray<Plain.Operand>>,
  build: (...values: ReadonlyArray<Value>) => Value | ReadonlyArray<Value>,
  expected: (...inputs: ReadonlyArray<Plain.Operand>) => Plain.Plain | ReadonlyArray<Plain.Plain>
) =>
  Plain.forAll(arbitrary, runs, (operands) =>
    Effect.map(Plain.run(operands, build), (results) => {
      const wanted = expected(...operands)
      const list = Array.isArray(wanted) ? (wanted as ReadonlyArray<Plain.Plain>) : [wanted as Plain.Plain]
      expect(results.map((r) => r.sizes)).toEqual(list.map((w) => w.sizes))
      results.forEach((result, i) => expect(Plain.distance(result, list[i]!)).toBeLessThan(1e-5))
    })
  )

const elementwise = (
  elements: ReadonlyArray<fc.Arbitrary<number>>,
  build: (...values: ReadonlyArray<Value>) => Value,
  f: (...xs: ReadonlyArray<number>) => number
) => agrees(Plain.broadcasting(...elements), build, (...inputs) => Plain.zip(f, ...inputs))

const some = (element?: fc.Arbitrary<number>, minimum = 0) =>
  Plain.axes(minimum).chain((of) => Plain.operand(of, element).map((x) => [x]))

const any = Plain.number(-4, 4)
const positive = Plain.number(0.1, 4)
/** Few different numbers, so that some are equal. */
const coarse = fc.integer({ min: -2, max: 2 })

describe("operators on each element", () => {
  const unary: Readonly<Record<string, [(x: Value) => Value, (x: number) => number, fc.Arbitrary<number>?]>> = {
    neg: [Op.neg, (x) => -x],
    exp: [Op.exp, Math.exp],
    log: [Op.log, Math.log, positive],
    sqrt: [Op.sqrt, Math.sqrt, positive],
    reciprocal: [Op.reciprocal, (x) => 1 / x, Plain.awayFromZero],
    sigmoid: [Op.sigmoid, (x) => 1 / (1 + Math.exp(-x))],
    tanh: [Op.tanh, Math.tanh],
    abs: [Op.abs, Math.abs],
    softplus: [Op.softplus, (x) => Math.log1p(Math.exp(-Math.abs(x))) + Math.max(x, 0), Plain.number(-200, 200)],
    silu: [Op.silu, (x) => x / (1 + Math.exp(-x))],
    "clip to [-1, 0.5]": [(x) => Op.clip(x, -1, 0.5), (x) => Math.min(Math.max(x, -1), 0.5)],
    "shift by 2.5": [(x) => Op.shift(x, 2.5), (x) => x + 2.5],
    "scale by -3": [(x) => Op.scale(x, -3), (x) => -3 * x],
    detach: [Op.detach, (x) => x],
    "cast to int64 truncates": [(x) => Op.cast(x, "int64"), Math.trunc],
    "cast to bool": [(x) => Op.cast(Op.cast(x, "bool"), "float32"), (x) => Number(x !== 0), coarse]
  }
  for (const [name, [build, f, element = any]] of Object.entries(unary)) {
    it.effect(name, () =>
      elementwise(
        [element],
        (x) => build(x!),
        (x) => f(x!)
      )
    )
  }

  const binary: Readonly<
    Record<string, [(a: Value, b: Value) => Value, (a: number, b: number) => number, fc.Arbitrary<number>?]>
  > = {
    add: [Op.add, (a, b) => a + b],
    sub: [Op.sub, (a, b) => a - b],
    mul: [Op.mul, (a, b) => a * b],
    div: [Op.div, (a, b) => a / b, Plain.awayFromZero],
    minimum: [Op.minimum, Math.min],
    maximum: [Op.maximum, Math.max],
    greater: [Op.greater, (a, b) => Number(a > b), coarse],
    greaterOrEqual: [Op.greaterOrEqual, (a, b) => Number(a >= b), coarse],
    equal: [Op.equal, (a, b) => Number(a === b), coarse]
  }
  for (const [name, [build, f, element = any]] of Object.entries(binary)) {
    it.effect(`${name}, broadcasting`, () =>
      elementwise(
        [element, element],
        (a, b) => build(a!, b!),
        (a, b) => f(a!, b!)
      )
    )
  }

  it.effect("where, broadcasting", () =>
    elementwise(
      [coarse, any, any],
      (c, a, b) => Op.where(Op.greater(c!, Graph.scalar(c!.graph, 0)), a!, b!),
      (c, a, b) => (c! > 0 ? a! : b!)
    )
  )
})

describe("operators on shapes", () => {
  const permuted = Plain.axes(1).chain((of) =>
    fc.tuple(
      Plain.operand(of),
      fc.shuffledSubarray(
        of.map((_, i) => i),
        { minLength: of.length }
      )
    )
  )

  it.effect("transpose", () =>
    Plain.forAll(permuted, runs, ([x, perm]) =>
      Effect.map(
        Plain.run([x], (v) => Op.transpose(v!, perm)),
        ([y]) => {
          const sizes = perm.map((p) => x.sizes[p]!)
          expect(y).toEqual(
            Plain.tabulate(sizes, (at) =>
              Plain.get(
                x,
                x.sizes.map((_, axis) => at[perm.indexOf(axis)]!)
              )
            )
          )
        }
      )
    )
  )

  it.effect("reshape copies symbols and derives one size", () =>
    Effect.gen(function* () {
      const x: Plain.Operand = {
        ...Plain.floats(
          [2, 3, 4],
          Array.from({ length: 24 }, (_, i) => i)
        ),
        shape: ["B", "T", 4]
      }
      const [heads, flat, back] = yield* Plain.run([x], (v) => {
        const rows = Op.reshape(v!, ["B*T", 4])
        return [Op.reshape(v!, ["B", "T", 2, 2]), rows, Op.reshape(rows, [2, "T", 4])]
      })
      expect(heads).toEqual({ sizes: [2, 3, 2, 2], data: x.data })
      expect(flat).toEqual({ sizes: [6, 4], data: x.data })
      expect(back).toEqual({ sizes: [2, 3, 4], data: x.data })
    })
  )

  it.effect("expand, expandLike, zerosLike and shapeOf", () =>
    Effect.gen(function* () {
      const x: Plain.Operand = { ...Plain.floats([2, 1], [1, 2]), shape: ["N", 1] }
      const like: Plain.Operand = { ...Plain.floats([2, 3], [0, 0, 0, 0, 0, 0]), shape: ["N", "T"] }
      const [known, wide, zeros, shape] = yield* Plain.run([x, like], (a, b) => [
        Op.expand(Graph.scalar(a!.graph, 7), [3]),
        Op.expandLike(a!, b!),
        Op.zerosLike(b!),
        Op.shapeOf(b!)
      ])
      expect(known).toEqual({ sizes: [3], data: [7, 7, 7] })
      expect(wide).toEqual({ sizes: [2, 3], data: [1, 1, 1, 2, 2, 2] })
      expect(zeros).toEqual({ sizes: [2, 3], data: [0, 0, 0, 0, 0, 0] })
      expect(shape).toEqual({ sizes: [2], data: [2, 3] })
    })
  )

  it.effect("concat, and split and splitBy as its inverse", () =>
    Plain.forAll(
      fc
        .tuple(Plain.axes(1), fc.nat(), fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 3 }))
        .chain(([of, n, sizes]) => {
          const axis = n % of.length
          const parts = sizes.map((size) => Plain.operand(of.with(axis, { size, dim: size })))
          return fc.record({ axis: fc.constant(axis), parts: fc.tuple(...parts) })
        }),
      runs,
      ({ axis, parts }) =>
        Effect.map(
          Plain.run(parts, (...values) => {
            const joined = Op.concat(values, axis)
            const sizes = parts.map((p) => p.sizes[axis]!)
            const atRun = Graph.constant(joined.graph, "int64", [sizes.length], sizes)
            const symbols = sizes.map((_, i) => `S${i}`)
            return [joined, ...Op.split(joined, axis, sizes), ...Op.splitBy(joined, axis, atRun, symbols)]
          }),
          ([joined, ...cut]) => {
            const owner = parts.flatMap((p, i) => Array.from({ length: p.sizes[axis]! }, (_, k) => [i, k] as const))
            const expected = Plain.tabulate(parts[0]!.sizes.with(axis, owner.length), (at) => {
              const [i, k] = owner[at[axis]!]!
              return Plain.get(parts[i]!, at.with(axis, k))
            })
            expect(joined).toEqual(expected)
            const wanted = parts.map(({ data, sizes }) => ({ data, sizes }))
            expect(cut).toEqual([...wanted, ...wanted])
          }
        )
    )
  )
})

describe("reductions", () => {
  const reduction = Plain.axes(1).chain((of) =>
    fc.tuple(Plain.operand(of, any), fc.subarray(of.map((_, i) => i)), fc.boolean(), fc.boolean())
  )

  for (const [name, build, combine] of [
    ["sum", Op.sum, (a: number, b: number) => a + b],
    ["max", Op.max, Math.max]
  ] as const) {
    it.effect(`${name} over any axes, none included`, () =>
      Plain.forAll(reduction, runs * 2, ([x, axes, keep, negative]) =>
        Effect.map(
          Plain.run([x], (v) => build(v!, negative ? axes.map((axis) => axis - x.sizes.length) : axes, keep)),
          ([y]) => {
            const cells = new Map<string, number>()
            x.data.forEach((value, i) => {
              const key = Plain.coordinates(x.sizes, i)
                .map((c, axis) => (axes.includes(axis) ? 0 : c))
                .join()
              cells.set(key, cells.has(key) ? combine(cells.get(key)!, value) : value)
            })
            const sizes = x.sizes.flatMap((size, axis) => (axes.includes(axis) ? (keep ? [1] : []) : [size]))
            expect(Plain.distance(y!, { sizes, data: [...cells.values()] })).toBeLessThan(1e-6)
          }
        )
      )
    )
  }

  it.effect("sumAll", () =>
    agrees(
      some(any),
      (x) => Op.sumAll(x!),
      (x) => ({ sizes: [], data: [x!.data.reduce((a, b) => a + b, 0)] })
    )
  )

  it.effect("argmax is the first index of the largest element of a row", () =>
    agrees(
      some(coarse, 1),
      (x) => Op.argmax(x!),
      (x) => {
        const best = Plain.rows(x!, (row) => [row.indexOf(Math.max(...row))])
        return { sizes: x!.sizes.slice(0, -1), data: best.data }
      }
    )
  )

  it.effect("cumsum runs along the last axis", () =>
    agrees(
      some(any, 1),
      (x) => Op.cumsum(x!),
      (x) => {
        return Plain.rows(x!, (row) => row.map((_, i) => row.slice(0, i + 1).reduce((a, b) => a + b, 0)))
      }
    )
  )
})

describe("indices", () => {
  const axis = (size: number, symbol: string) => fc.constantFrom<Plain.Axis>({ size, dim: size }, { size, dim: symbol })

  it.effect("gather takes rows", () =>
    agrees(
      fc
        .tuple(axis(4, "V"), Plain.axes(0, 2), Plain.axes(0, 2))
        .chain(([v, width, at]) =>
          fc.tuple(Plain.operand([v, ...width.map(({ size }) => ({ size, dim: size }))]), Plain.indices(at, 4))
        ),
      (x, at) => Op.gather(x!, at!),
      (x, at) => ({
        sizes: [...at!.sizes, ...x!.sizes.slice(1)],
        data: at!.data.flatMap((row) => {
          const width = Plain.count(x!.sizes.slice(1))
          return x!.data.slice(row * width, row * width + width)
        })
      })
    )
  )

  it.effect("gatherElements takes elements of each row", () =>
    agrees(
      fc
        .tuple(Plain.axes(0, 2), axis(4, "V"), axis(3, "K"))
        .chain(([lead, v, k]) => fc.tuple(Plain.operand([...lead, v]), Plain.indices([...lead, k], 4))),
      (x, at) => Op.gatherElements(x!, at!),
      (x, at) => Plain.tabulate(at!.sizes, (c) => Plain.get(x!, [...c.slice(0, -1), Plain.get(at!, c)]))
    )
  )

  it.effect("scatterAddElements adds to elements of each row, repeated ones too", () =>
    agrees(
      fc
        .tuple(Plain.axes(0, 2), axis(3, "V"), axis(5, "K"))
        .chain(([lead, v, k]) =>
          fc.tuple(Plain.operand([...lead, v]), Plain.indices([...lead, k], 3), Plain.operand([...lead, k]))
        ),
      (x, at, updates) => Op.scatterAddElements(x!, at!, updates!),
      (x, at, updates) =>
        Plain.tabulate(x!.sizes, (c) =>
          Array.from({ length: 5 }, (_, k) => [...c.slice(0, -1), k]).reduce(
            (sum, from) => sum + (Plain.get(at!, from) === c.at(-1) ? Plain.get(updates!, from) : 0),
            Plain.get(x!, c)
          )
        )
    )
  )

  it.effect("scatterAddRows adds to rows, repeated ones too", () =>
    agrees(
      fc
        .tuple(axis(3, "V"), axis(2, "D"), axis(5, "N"))
        .chain(([v, d, n]) => fc.tuple(Plain.operand([v, d]), Plain.indices([n], 3), Plain.operand([n, d]))),
      (x, at, updates) => Op.scatterAddRows(x!, at!, updates!),
      (x, at, updates) =>
        Plain.tabulate(x!.sizes, ([row, column]) =>
          at!.data.reduce(
            (sum, to, n) => sum + (to === row ? Plain.get(updates!, [n, column!]) : 0),
            Plain.get(x!, [row!, column!])
          )
        )
    )
  )
})

describe("networks' operators", () => {
  const row = (x: ReadonlyArray<number>) => {
    const powers = x.map((value) => Math.exp(value - Math.max(...x)))
    const total = powers.reduce((a, b) => a + b, 0)
    return powers.map((p) => p / total)
  }

  it.effect("softmax and logSoftmax, stable for large numbers", () =>
    agrees(
      some(Plain.number(-150, 150), 1),
      (x) => [Op.softmax(x!), Op.logSoftmax(x!)],
      (x) => [
        Plain.rows(x!, row),
        Plain.rows(x!, (xs) => {
          const largest = Math.max(...xs)
          const total = xs.reduce((sum, value) => sum + Math.exp(value - largest), 0)
          return xs.map((value) => value - largest - Math.log(total))
        })
      ]
    )
  )

  it.effect("tokenLogprobs", () =>
    agrees(
      fc
        .tuple(Plain.axes(1, 1), fc.constant({ size: 5, dim: 5 }))
        .chain(([n, v]) => fc.tuple(Plain.operand([...n, v], any), Plain.indices(n, 5))),
      (logits, tokens) => Op.tokenLogprobs(logits!, tokens!),
      (logits, tokens) => ({
        sizes: tokens!.sizes,
        data: tokens!.data.map((token, n) => Math.log(row(logits!.data.slice(n * 5, n * 5 + 5))[token]!))
      })
    )
  )

  it.effect("rmsNorm", () =>
    agrees(
      Plain.axes(0, 2).chain((lead) => {
        const width = { size: 6, dim: 6 }
        return fc.tuple(Plain.operand([...lead, width]), Plain.operand([width]))
      }),
      (x, w) => Op.rmsNorm(x!, w!, 1e-3),
      (x, w) =>
        Plain.rows(x!, (xs) => {
          const square = xs.reduce((sum, value) => sum + value * value, 0) / xs.length
          return xs.map((value, i) => (value / Math.sqrt(square + 1e-3)) * w!.data[i]!)
        })
    )
  )

  it.effect("rotary turns each pair (i, i + d/2) of a head by position · frequency", () => {
    const [positions, half, heads] = [6, 2, 3]
    const angle = (position: number, i: number) => position * 0.3 ** i
    return agrees(
      fc
        .constantFrom<[Plain.Axis, Plain.Axis]>(
          [
            { size: 2, dim: "B" },
            { size: 3, dim: "T" }
          ],
          [
            { size: 1, dim: 1 },
            { size: 4, dim: 4 }
          ]
        )
        .chain((of) =>
          fc.tuple(
            Plain.operand([...of, { size: heads * half * 2, dim: heads * half * 2 }]),
            Plain.indices(of, positions)
          )
        ),
      (x, at) => {
        const table = (f: (x: number) => number) =>
          Graph.constant(
            x!.graph,
            "float32",
            [positions, half],
            Plain.tabulate([positions, half], ([p, i]) => f(angle(p!, i!))).data
          )
        return Op.rotary(x!, at!, table(Math.cos), table(Math.sin))
      },
      (x, at) =>
        Plain.tabulate(x!.sizes, ([b, t, c]) => {
          const within = c! % (2 * half)
          const theta = angle(Plain.get(at!, [b!, t!]), within % half)
          const partner = Plain.get(x!, [b!, t!, within < half ? c! + half : c! - half])
          const own = Plain.get(x!, [b!, t!, c!])
          return own * Math.cos(theta) + (within < half ? -partner : partner) * Math.sin(theta)
        })
    )
  })

  it.effect("matmul with its transpositions, factor and broadcasting", () =>
    Plain.forAll(
      fc
        .tuple(
          fc.record({ transA: fc.boolean(), transB: fc.boolean(), alpha: fc.constantFrom(1, 0.25) }),
          Plain.axes(0, 2),
          fc.boolean()
        )
        .chain(([options, lead, swap]) => {
          const [m, k, n] = [2, 3, 4].map((size, i) => ({ size, dim: "MKN"[i]! })) as [
            Plain.Axis,
            Plain.Axis,
            Plain.Axis
          ]
          return Plain.narrowed(lead).chain((narrow) =>
            fc.record({
              options: fc.constant(options),
              a: Plain.operand([...(swap ? narrow : lead), ...(options.transA ? [k, m] : [m, k])]),
              b: Plain.operand([...(swap ? lead : narrow), ...(options.transB ? [n, k] : [k, n])])
            })
          )
        }),
      runs * 2,
      ({ a, b, options: { alpha, transA, transB } }) =>
        Effect.map(
          Plain.run([a, b], (x, y) => Op.matmul(x!, y!, { transA, transB, alpha })),
          ([y]) => {
            const outer = (x: Plain.Plain) => ({
              sizes: x.sizes.slice(0, -2),
              data: Array(Plain.count(x.sizes.slice(0, -2))).fill(0)
            })
            const { sizes } = Plain.zip(() => 0, outer(a), outer(b))
            const expected = Plain.tabulate([...sizes, 2, 4], (at) => {
              const [lead, m, n] = [at.slice(0, -2), at.at(-2)!, at.at(-1)!]
              return [0, 1, 2].reduce((sum, k) => {
                const left = Plain.get(a, [...lead, ...(transA ? [k, m] : [m, k])])
                return sum + alpha * left * Plain.get(b, [...lead, ...(transB ? [n, k] : [k, n])])
              }, 0)
            })
            expect(Plain.distance(y!, expected)).toBeLessThan(1e-5)
          }
        )
    )
  )
})
