/**
 * Every derivative against central differences: for loss = Σ w·f(x) with random w, the gradient's entries are compared
 * with Σ w (f(x + h) − f(x − h)) / 2h, summed in double precision.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import * as Attend from "../../src/onnx/Attend.ts"
import * as Gradient from "../../src/onnx/Gradient.ts"
import * as Graph from "../../src/onnx/Graph.ts"
import type { Value } from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Session from "../../src/onnx/Session.ts"
import * as Plain from "./Plain.ts"

/** A function of operands, of which the float32 ones are differentiated. */
interface Case {
  readonly operands: ReadonlyArray<Plain.Operand>
  readonly build: (...values: ReadonlyArray<Value>) => Value
  /** The step of the differences; large ones are exact where f is linear. */
  readonly step?: number
}

/** The sizes of a shape whose symbols (also products, `A*B`) stand in the operands. */
const sizesOf = (shape: Graph.Shape, operands: ReadonlyArray<Plain.Operand>): Array<number> => {
  const known = new Map(operands.flatMap((o) => o.shape.map((dim, i) => [String(dim), o.sizes[i]!])))
  return shape.map((dim) =>
    typeof dim === "number" ? dim : Plain.count(dim.split("*").map((s) => known.get(s) ?? Number(s)))
  )
}

const weightOf = (i: number): number => Math.fround(Math.cos(3 * i + 1))

/** The largest error of the gradients, relative to each one's largest entry. */
const error = (op: string, { build, operands, step = 1e-2 }: Case): Effect.Effect<number, Session.SessionError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const graph = Graph.make(op)
      const inputs = Plain.inputs(graph, operands)
      const y = build(...inputs)
      expect(graph.nodes.map((n) => n.op)).toContain(op)
      const sizes = sizesOf(y.shape, operands)
      const weights = Plain.tabulate(sizes, () => 0).data.map((_, i) => weightOf(i))
      const loss = Op.sumAll(Op.mul(y, Graph.input(graph, "weights", "float32", y.shape)))
      const parameters = operands.flatMap((o, i) => (o.dtype === "float32" ? [i] : []))
      const gradients = Gradient.gradients(
        loss,
        parameters.map((i) => inputs[i]!)
      )
      Graph.output(graph, "y", y)
      parameters.forEach((of, i) => {
        expect(gradients[i]!.shape).toEqual(operands[of]!.shape)
        Graph.output(graph, `gradient${of}`, gradients[i]!)
      })
      const session = yield* Plain.session(graph)
      const feeds = { ...Plain.feeds(operands), weights: Session.float32(Float32Array.from(weights), sizes) }
      const lossAt = (of: number, i: number, x: number) => {
        const moved = { ...operands[of]!, data: operands[of]!.data.with(i, x) }
        return Effect.map(session.run({ ...feeds, [`x${of}`]: Plain.tensor(moved) }, ["y"]), (results) =>
          Plain.plain(results["y"]!).data.reduce((sum, f, j) => sum + weights[j]! * f, 0)
        )
      }
      const results = yield* session.run(feeds)
      let worst = 0
      for (const of of parameters) {
        const numeric: Array<number> = []
        for (const [i, x] of operands[of]!.data.entries()) {
          const [up, down] = [Math.fround(x + step), Math.fround(x - step)]
          numeric.push(((yield* lossAt(of, i, up)) - (yield* lossAt(of, i, down))) / (up - down))
        }
        const given = Plain.plain(results[`gradient${of}`]!)
        worst = Math.max(worst, Plain.distance(given, { sizes: operands[of]!.sizes, data: numeric }))
      }
      return worst
    })
  )

const unary = (f: (x: Value) => Value, element?: fc.Arbitrary<number>): fc.Arbitrary<Case> =>
  Plain.axes()
    .chain((of) => Plain.operand(of, element))
    .map((x) => ({ operands: [x], build: (v) => f(v!) }))

const binary = (
  f: (a: Value, b: Value) => Value,
  left: fc.Arbitrary<number> = Plain.number(),
  right: fc.Arbitrary<number> = left
): fc.Arbitrary<Case> => Plain.broadcasting(left, right).map((operands) => ({ operands, build: (a, b) => f(a!, b!) }))

const positive = Plain.number(0.5, 2)
/** Even and odd multiples of 0.05: numbers of the two kinds are never closer than that. */
const even = fc.integer({ min: -20, max: 20 }).map((n) => n / 10)
const odd = even.map((x) => x + 0.05)
/** Numbers that half precision holds, also a step of 1/8 further. */
const eighths = fc.integer({ min: -16, max: 16 }).map((n) => n / 8)

const shaped = (sizes: Graph.Shape, to: (x: Value) => Value): fc.Arbitrary<Case> =>
  Plain.operand(sizes.map((dim) => ({ dim, size: typeof dim === "number" ? dim : dim.charCodeAt(0) - 63 }))).map(
    (x) => ({ operands: [x], build: (v) => to(v!) })
  )

/** The axes of a tensor by number. */
const axisNumbers = (rank: number): Array<number> => Array.from({ length: rank }, (_, i) => i)

const inner = (size: number, symbol: string): fc.Arbitrary<Plain.Axis> =>
  fc.boolean().map((symbolic) => ({ size, dim: symbolic ? symbol : size }))

/** Products of matrices [.., m, k] and [.., k, n], stored transposed on request, whose leading axes broadcast. */
const matmul = (options: fc.Arbitrary<Op.MatmulOptions>): fc.Arbitrary<Case> =>
  fc.tuple(options, Plain.axes(0, 2), inner(2, "M"), inner(3, "K"), inner(2, "N")).chain(([given, lead, m, k, n]) =>
    fc
      .tuple(Plain.narrowed(lead), fc.boolean())
      .map(([narrow, swap]) => (swap ? [lead, narrow] : [narrow, lead]) as [typeof lead, typeof lead])
      .chain(([leadA, leadB]) =>
        fc.tuple(
          Plain.operand([...leadA, ...(given.transA ? [k, m] : [m, k])]),
          Plain.operand([...leadB, ...(given.transB ? [n, k] : [k, n])])
        )
      )
      .map((operands): Case => ({ operands, build: (a, b) => Op.matmul(a!, b!, given) }))
  )

const cases: Readonly<Record<string, fc.Arbitrary<Case>>> = {
  Identity: unary((x) => Graph.node(x.graph, "Identity", [x], [x])[0]!),
  Neg: unary(Op.neg),
  Add: binary(Op.add),
  Sub: binary(Op.sub),
  Mul: binary(Op.mul),
  Div: binary(
    Op.div,
    Plain.number(),
    Plain.awayFromZero.map((x) => x * 2)
  ),
  Min: fc.oneof(
    binary(Op.minimum, even, odd),
    unary((x) => Op.clip(x, -1.05, 0.55), even)
  ),
  Max: fc.oneof(
    binary(Op.maximum, odd, even),
    unary((x) => Op.clip(x, -0.55, 1.05), even)
  ),
  Exp: unary(Op.exp),
  Log: unary(Op.log, positive),
  Sqrt: unary(Op.sqrt, positive),
  Reciprocal: unary(
    Op.reciprocal,
    Plain.awayFromZero.map((x) => x * 2)
  ),
  Abs: unary(Op.abs, Plain.awayFromZero),
  Sigmoid: unary(Op.sigmoid),
  QuickGelu: unary(Op.silu),
  Tanh: unary(Op.tanh),
  Softplus: unary(Op.softplus),
  // The condition is itself computed from a parameter, to which no gradient flows.
  Where: Plain.broadcasting(Plain.awayFromZero, Plain.number(), Plain.number()).map((operands) => ({
    operands,
    build: (c, a, b) => Op.where(Op.greater(c!, Graph.scalar(c!.graph, 0)), a!, b!)
  })),
  Cast: fc.oneof(
    unary((x) => Op.cast(x, "float32")),
    unary((x) => Op.cast(Op.cast(x, "float16"), "float32"), eighths).map((c) => ({ ...c, step: 0.125 })),
    unary((x) => Op.mul(x, Op.cast(Op.cast(x, "int64"), "float32")), odd)
  ),
  Transpose: Plain.axes(1)
    .chain((of) => fc.tuple(Plain.operand(of), fc.shuffledSubarray(axisNumbers(of.length), { minLength: of.length })))
    .map(([x, perm]) => ({ operands: [x], build: (v) => Op.transpose(v!, perm) })),
  Reshape: fc.oneof(
    shaped([2, 6], (x) => Op.reshape(x, [3, 2, 2])),
    shaped(["A", 4], (x) => Op.reshape(x, ["A", 2, 2])),
    shaped(["A", 4, "B"], (x) => Op.reshape(x, ["A", 2, 2, "B"])),
    shaped(["A", "B", 2], (x) => Op.reshape(x, ["A*B", 2])),
    shaped(["A", "B", "C"], (x) => Op.reshape(x, ["A*B*C"])),
    shaped([1], (x) => Op.reshape(x, []))
  ),
  Expand: fc.oneof(
    Plain.axes(1)
      .chain((of) =>
        fc.tuple(
          Plain.narrowed(of).chain((some) => Plain.operand(some)),
          Plain.operand(of)
        )
      )
      .map((operands): Case => ({ operands, build: (x, to) => Op.expandLike(x!, to!) })),
    shaped([2, 1], (x) => Op.expand(x, [3, 2, 4]))
  ),
  ReduceSum: Plain.axes(1)
    .chain((of) => fc.tuple(Plain.operand(of), fc.subarray(axisNumbers(of.length), { minLength: 1 }), fc.boolean()))
    .map(([x, axes, keep]) => ({ operands: [x], build: (v) => Op.sum(v!, axes, keep) })),
  Concat: fc.tuple(Plain.axes(1), Plain.axes(1, 1), Plain.axes(1, 1), fc.nat()).chain(([of, [b], [c], n]) => {
    const axis = n % of.length
    const others = [b!, c!].map((size, i) =>
      of.with(axis, { ...size, dim: typeof size.dim === "string" ? `X${i}` : size.dim })
    )
    return fc.tuple(...[of, ...others].map((some) => Plain.operand(some))).map((operands): Case => ({
      operands,
      // Weighted by its square so that a part in the wrong place would show.
      build: (...parts) => {
        const joined = Op.concat(parts, axis, operands.some((o) => typeof o.shape[axis] === "string") ? "J" : undefined)
        const total = Op.sum(joined, [axis], true)
        return Op.mul(total, Op.sum(Op.mul(joined, joined), [axis], true))
      }
    }))
  }),
  Softmax: Plain.axes(1)
    .chain((of) => Plain.operand(of))
    .map((x) => ({ operands: [x], build: (v) => Op.softmax(v!) })),
  LogSoftmax: Plain.axes(1)
    .chain((of) => Plain.operand(of))
    .map((x) => ({ operands: [x], build: (v) => Op.logSoftmax(v!) })),
  GatherElements: fc
    .tuple(Plain.axes(0, 2), inner(3, "V"), inner(4, "K"))
    .chain(([lead, v, k]) =>
      fc
        .tuple(Plain.operand([...lead, v]), Plain.indices([...lead, k], 3))
        .map((operands): Case => ({ operands, build: (x, at) => Op.gatherElements(x!, at!) }))
    ),
  Gather: fc.tuple(Plain.axes(0, 2), Plain.axes(0, 2), inner(3, "V")).chain(([at, width, v]) => {
    const symbolic = at.length === 1
    const named = width.map(({ dim, size }) => ({ size, dim: symbolic && typeof dim === "string" ? `W${dim}` : size }))
    return fc
      .tuple(Plain.operand([v, ...named]), Plain.indices(at, 3))
      .map((operands): Case => ({ operands, build: (x, rows) => Op.gather(x!, rows!) }))
  }),
  MatMul: matmul(fc.constant({})),
  FusedMatMul: matmul(
    fc
      .record({ transA: fc.boolean(), transB: fc.boolean(), alpha: fc.constantFrom(1, 0.5, -2) })
      .filter((o) => o.transA || o.transB || o.alpha !== 1)
  ),
  SimplifiedLayerNormalization: Plain.axes(0, 2).chain((lead) =>
    fc
      .tuple(Plain.operand([...lead, { size: 4, dim: 4 }], Plain.awayFromZero), Plain.operand([{ size: 4, dim: 4 }]))
      .map((operands): Case => ({ operands, build: (x, w) => Op.rmsNorm(x!, w!, 1e-2) }))
  ),
  RotaryEmbedding: fc
    .tuple(inner(2, "B"), inner(3, "T"), fc.constantFrom(undefined, { heads: 1, dims: 4 }))
    .chain(([b, t, partial]) =>
      fc.tuple(Plain.operand([b, t, { size: 8, dim: 8 }]), Plain.indices([b, t], 5), fc.constant(partial))
    )
    .map(([x, at, partial]) => ({
      operands: [x, at],
      build: (x, positions) => {
        const table = (f: (angle: number) => number) =>
          Graph.constant(
            x!.graph,
            "float32",
            [5, 2],
            Array.from({ length: 10 }, (_, i) => f((i >> 1) * 0.7 ** (i & 1)))
          )
        return Op.rotary(x!, positions!, table(Math.cos), table(Math.sin), partial)
      }
    })),
  Gelu: unary(Op.geluTanh)
}

const tolerance = 2e-3
const runs = 12

describe("the table of derivatives", () => {
  it("has a case here for each of its entries", () => {
    expect(Object.keys(cases).toSorted()).toEqual(Gradient.differentiable.toSorted())
  })

  for (const [op, arbitrary] of Object.entries(cases)) {
    it.effect(`${op} agrees with central differences`, () =>
      Plain.forAll(arbitrary, runs, (c) => Effect.map(error(op, c), (e) => expect(e).toBeLessThan(tolerance)))
    )
  }
})

describe("derivatives beside the table", () => {
  const holds = (op: string, arbitrary: fc.Arbitrary<Case>) =>
    Plain.forAll(arbitrary, runs, (c) => Effect.map(error(op, c), (e) => expect(e).toBeLessThan(tolerance)))

  it.effect("Split joins the gradients of its parts, also where some have none", () =>
    holds(
      "Split",
      fc
        .tuple(
          Plain.operand([
            { size: 2, dim: "A" },
            { size: 6, dim: 6 }
          ]),
          fc.boolean()
        )
        .map(([x, all]): Case => ({
          operands: [x],
          build: (v) => {
            const [a, b, c] = Op.split(v!, 1, [2, 2, 2])
            return Op.mul(Op.exp(a!), all ? Op.add(b!, c!) : c!)
          }
        }))
    )
  )

  it.effect("Split with sizes of the run is differentiated as well", () =>
    holds(
      "Split",
      Plain.operand([{ size: 4, dim: "A" }]).map((x): Case => ({
        operands: [x],
        build: (v) => {
          const [a, b] = Op.splitBy(v!, 0, Graph.constant(v!.graph, "int64", [2], [1, 3]), ["P", "Q"])
          return Op.mul(Op.sum(a!, [0]), Op.sum(Op.exp(b!), [0]))
        }
      }))
    )
  )

  it.effect("tokenLogprobs has the derivative of log softmax at the token", () =>
    holds(
      "LogSoftmax",
      fc
        .tuple(inner(3, "N"), inner(5, "V"))
        .chain(([n, v]) =>
          fc
            .tuple(Plain.operand([n, v]), Plain.indices([n], 5))
            .map((operands): Case => ({ operands, build: (logits, tokens) => Op.tokenLogprobs(logits!, tokens!) }))
        )
    )
  )

  const mixed = (scores: Graph.Value, values: Graph.Value): Graph.Value => {
    const weights = Op.softmax(scores)
    const result = Op.matmul(weights, values)
    return Graph.withGradient([scores, values], result, (dy) => Attend.derivative(weights, values, result, dy))
  }
  it.effect("swiglu has the derivative of silu(gate) x", () =>
    holds(
      "QuickGelu",
      fc
        .tuple(inner(3, "T"), inner(4, "W"))
        .chain((dims) =>
          fc
            .tuple(Plain.operand(dims), Plain.operand(dims))
            .map((operands): Case => ({ operands, build: (gate, x) => Op.swiglu(gate!, x!) }))
        )
    )
  )

  it.effect("Attend.derivative is that of softmax(scores) values, whose weights take no other way", () =>
    holds(
      "Softmax",
      fc
        .tuple(inner(2, "B"), inner(3, "T"), inner(4, "S"), inner(2, "d"))
        .chain(([b, t, s, d]) =>
          fc
            .tuple(Plain.operand([b, t, s]), Plain.operand([b, s, d]))
            .map((operands): Case => ({ operands, build: (scores, values) => mixed(scores!, values!) }))
        )
    )
  )

  const activations = [
    { size: 2, dim: "B" },
    { size: 3, dim: "T" }
  ]
  for (const transA of [false, true]) {
    for (const transB of [false, true]) {
      for (const alpha of [1, 0.5]) {
        it.effect(`a weight under activations, transA ${transA}, transB ${transB}, alpha ${alpha}`, () =>
          holds(
            transA || transB || alpha !== 1 ? "FusedMatMul" : "MatMul",
            fc
              .tuple(
                Plain.operand(
                  transA
                    ? [activations[0]!, { size: 4, dim: 4 }, activations[1]!]
                    : [...activations, { size: 4, dim: 4 }]
                ),
                Plain.operand((transB ? [5, 4] : [4, 5]).map((size) => ({ size, dim: size })))
              )
              .map((operands): Case => ({ operands, build: (x, w) => Op.matmul(x!, w!, { transA, transB, alpha }) }))
          )
        )
      }
    }
  }

  it.effect("a row that is gathered many times gets the sum of all its gradients, whatever the number of threads", () =>
    Effect.gen(function* () {
      const [V, D, N] = [7, 64, 20_000]
      const graph = Graph.make("embedding")
      const rows = Graph.input(graph, "rows", "float32", [V, D])
      const loss = Op.sumAll(Op.gather(rows, Graph.input(graph, "ids", "int64", ["N"])))
      Graph.output(graph, "gradient", Gradient.gradients(loss, [rows])[0]!)
      const session = yield* Session.make(graph, { threads: 8 })
      const ids = Array.from({ length: N }, (_, i) => (i * i) % V)
      const expected = Array.from({ length: V }, (_, v) => ids.filter((id) => id === v).length)
      for (let attempt = 0; attempt < 5; attempt++) {
        const { gradient } = yield* session.run({
          rows: Session.float32(new Float32Array(V * D), [V, D]),
          ids: Session.int64(ids, [N])
        })
        expect(Plain.plain(gradient!)).toEqual(Plain.tabulate([V, D], ([v]) => expected[v!]!))
      }
    })
  )
})

describe("Gradient.gradients", () => {
  const vector = Plain.floats([3], [0.5, -1, 2])

  /** The gradients of a loss of x0, x1, … by all of them. */
  const gradientsOf = (operands: ReadonlyArray<Plain.Operand>, loss: (...x: ReadonlyArray<Value>) => Value) =>
    Plain.run(operands, (...values) => Gradient.gradients(loss(...values), values))

  it.effect("stops at detached values", () =>
    Effect.gen(function* () {
      const [gradient] = yield* gradientsOf([vector], (x) => Op.sumAll(Op.mul(x!, Op.detach(x!))))
      expect(gradient!.data).toEqual(vector.data)
    })
  )

  it.effect("gives zeros for a parameter that the loss does not depend on, in its shape of the run", () =>
    Effect.gen(function* () {
      const idle: Plain.Operand = { sizes: [2, 1], shape: ["A", "B"], dtype: "float32", data: [7, 8] }
      const [, gradient] = yield* gradientsOf([vector, idle], (x) => Op.sumAll(x!))
      expect(gradient).toEqual({ sizes: [2, 1], data: [0, 0] })
    })
  )

  it.effect("sums over all the uses of a value", () =>
    Effect.gen(function* () {
      const [gradient] = yield* gradientsOf([vector], (x) => Op.sumAll(Op.add(Op.mul(x!, x!), Op.scale(x!, 3))))
      expect(gradient!.data).toEqual(vector.data.map((x) => 2 * x + 3))
    })
  )

  it.effect("differentiates by values in the middle of a graph, whatever made them", () =>
    Effect.gen(function* () {
      const [gradient] = yield* Plain.run([vector], (x) => {
        const made = Op.cumsum(x!)
        return Gradient.gradients(Op.sumAll(Op.mul(made, made)), [made])
      })
      expect(gradient!.data).toEqual([1, -1, 3])
    })
  )

  it.effect("is zero where an absolute value is, as nothing is to be gained on either side", () =>
    Effect.gen(function* () {
      const [gradient] = yield* gradientsOf([Plain.floats([3], [0, -1, 2])], (x) => Op.sumAll(Op.abs(x!)))
      expect(gradient!.data).toEqual([0, -1, 1])
    })
  )

  it.effect("takes the first of two equal values as the extremum", () =>
    Effect.gen(function* () {
      for (const extremum of [Op.minimum, Op.maximum]) {
        const gradients = yield* gradientsOf([vector, vector], (a, b) => Op.sumAll(extremum(a!, b!)))
        expect(gradients.map((g) => g.data)).toEqual([
          [1, 1, 1],
          [0, 0, 0]
        ])
      }
    })
  )

  it("refuses a loss that is no scalar, with its shape", () => {
    const x = Graph.input(Graph.make("training"), "x", "float32", ["N", 3])
    expect(() => Gradient.gradients(Op.exp(x), [x])).toThrow(
      /^gradients at training: the loss must be a scalar \(inputs: float32\[N, 3\] Exp_0\)$/
    )
  })

  it("refuses an operator without a derivative, with its shapes and place, but only on a parameter's way", () => {
    const graph = Graph.make("training")
    const x = Graph.input(graph, "x", "float32", ["N", 3])
    const running = Graph.labelled(graph, "layer 1", () => Op.cumsum(x))
    const y = Graph.input(graph, "y", "float32", ["N", 3])
    const loss = Op.sumAll(Op.mul(running, y))
    expect(() => Gradient.gradients(loss, [x])).toThrow(Graph.GraphError)
    expect(() => Gradient.gradients(loss, [x])).toThrow(/CumSum at .*no derivative \(in layer 1\).*float32\[N, 3\] x/)
    expect(Gradient.gradients(loss, [y])).toHaveLength(1)
  })
})
