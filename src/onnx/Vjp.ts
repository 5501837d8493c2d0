/**
 * Vjp: the vector-Jacobian products of operators.
 *
 * The table is sorted from simple to complex. For y = f(x₁, …) and the gradient dy of the loss with respect to y, each
 * entry gives the gradients of the loss with respect to the inputs. `test/onnx/Gradient.test.ts` holds every entry
 * against central differences.
 */
import * as Graph from "./Graph.ts"
import type { Node, Shape, Value } from "./Graph.ts"
import * as Op from "./Op.ts"

/**
 * From a node and the gradient of its first output to the gradients of its inputs, each made only where it is needed;
 * null for an input without one.
 */
export type Vjp = (node: Node, dy: Value) => ReadonlyArray<(() => Value) | null>

/** Sums a gradient over the axes along which `shape` was broadcast. */
const unbroadcast = (dy: Value, shape: Shape): Value => {
  const lead = dy.shape.length - shape.length
  const same = Op.sum(
    dy,
    Array.from({ length: lead }, (_, i) => i)
  )
  const axes = same.shape.flatMap((dim, i) => (shape[i] === 1 && dim !== 1 ? [i] : []))
  return Op.sum(same, axes, true)
}

const in_ = (node: Node, i: number): Value => node.inputs[i]!
const out = (node: Node): Value => node.outputs[0]!
const like = (node: Node, i: number, dx: Value): Value => unbroadcast(dx, in_(node, i).shape)
const zero = (x: Value): Value => Graph.scalar(x.graph, 0)
/** The types that a gradient can have. */
export const floating: ReadonlySet<Graph.DType> = new Set<Graph.DType>(["float32", "float16", "bfloat16"])

/** The gradient of an extremum goes to the input that was taken; on a tie to the first, as if it stood alone. */
const extremum =
  (first: (a: Value, b: Value) => Value): Vjp =>
  (n, dy) => [
    () => like(n, 0, Op.where(first(in_(n, 0), in_(n, 1)), dy, zero(dy))),
    () => like(n, 1, Op.where(first(in_(n, 0), in_(n, 1)), zero(dy), dy))
  ]

const matmul: Vjp = (n, dy) => {
  const [a, b] = [in_(n, 0), in_(n, 1)]
  const attr = n.attributes as { transA?: { int: number }; transB?: { int: number }; alpha?: number }
  const transA = attr.transA?.int === 1
  const transB = attr.transB?.int === 1
  const alpha = attr.alpha ?? 1
  const da = () =>
    transA ? Op.matmul(b, dy, { transA: transB, transB: true, alpha }) : Op.matmul(dy, b, { transB: !transB, alpha })
  // A weight [in, out] under activations [..., T, in] is one product of all rows: no gradient per batch entry exists.
  const weight = b.shape.length === 2 && b.shape.every((d) => typeof d === "number")
  if (weight && a.shape.length > 2 && !transA) {
    const rows = (x: Value) => Op.reshape(x, [Op.product(x.shape.slice(0, -1)), x.shape.at(-1)!])
    const db = () =>
      transB
        ? Op.matmul(rows(dy), rows(a), { transA: true, alpha })
        : Op.matmul(rows(a), rows(dy), { transA: true, alpha })
    return [() => like(n, 0, da()), db]
  }
  const db = () => {
    if (transA) return transB ? Op.matmul(dy, a, { transA, transB: transA, alpha }) : Op.matmul(a, dy, { alpha })
    return transB ? Op.outer(dy, a, alpha) : Op.outer(a, dy, alpha)
  }
  return [() => like(n, 0, da()), () => like(n, 1, db())]
}

/** By operator. `Split`, of many outputs, is the affair of `Gradient`. */
export const table: Readonly<Record<string, Vjp>> = {
  Identity: (_, dy) => [() => dy],
  Neg: (_, dy) => [() => Op.neg(dy)],
  Add: (n, dy) => [() => like(n, 0, dy), () => like(n, 1, dy)],
  Sub: (n, dy) => [() => like(n, 0, dy), () => like(n, 1, Op.neg(dy))],
  Mul: (n, dy) => [() => like(n, 0, Op.mul(dy, in_(n, 1))), () => like(n, 1, Op.mul(dy, in_(n, 0)))],
  Div: (n, dy) => [
    () => like(n, 0, Op.div(dy, in_(n, 1))),
    () => like(n, 1, Op.neg(Op.mul(Op.div(dy, in_(n, 1)), out(n))))
  ],
  Min: extremum((a, b) => Op.greaterOrEqual(b, a)),
  Max: extremum((a, b) => Op.greaterOrEqual(a, b)),
  Exp: (n, dy) => [() => Op.mul(dy, out(n))],
  Log: (n, dy) => [() => Op.div(dy, in_(n, 0))],
  Sqrt: (n, dy) => [() => Op.div(dy, Op.scale(out(n), 2))],
  Reciprocal: (n, dy) => [() => Op.neg(Op.mul(dy, Op.mul(out(n), out(n))))],
  // At 0, where it has none, the derivative is the mean of those beside it, as PyTorch's: what is 0 stays there.
  Abs: (n, dy) => {
    const [x, none] = [in_(n, 0), zero(dy)]
    return [() => Op.where(Op.greater(x, none), dy, Op.where(Op.greater(none, x), Op.neg(dy), none))]
  },
  Sigmoid: (n, dy) => [() => Op.mul(dy, Op.mul(out(n), Op.sub(Graph.scalar(dy.graph, 1), out(n))))],
  Tanh: (n, dy) => [() => Op.mul(dy, Op.sub(Graph.scalar(dy.graph, 1), Op.mul(out(n), out(n))))],
  Softplus: (n, dy) => [() => Op.mul(dy, Op.sigmoid(in_(n, 0)))],
  Where: (n, dy) => [
    null,
    () => like(n, 1, Op.where(in_(n, 0), dy, zero(dy))),
    () => like(n, 2, Op.where(in_(n, 0), zero(dy), dy))
  ],
  Cast: (n, dy) => [floating.has(in_(n, 0).dtype) ? () => Op.cast(dy, in_(n, 0).dtype) : null],
  Transpose: (n, dy) => {
    const { ints } = n.attributes["perm"] as { ints: ReadonlyArray<number> }
    return [
      () =>
        Op.transpose(
          dy,
          ints.map((_, i) => ints.indexOf(i))
        )
    ]
  },
  Reshape: (n, dy) => [
    () => {
      const x = in_(n, 0)
      // Two symbols that both moved cannot be derived from sizes alone; then the input's own shape is read.
      const moved = x.shape.filter((d, i) => typeof d === "string" && dy.shape[i] !== d).length
      if (moved <= 1) return Op.reshape(dy, x.shape)
      return Graph.node(dy.graph, "Reshape", [dy, Op.shapeOf(x)], [{ dtype: dy.dtype, shape: x.shape }])[0]!
    },
    null
  ],
  Expand: (n, dy) => [() => like(n, 0, dy), null],
  ReduceSum: (n, dy) => [
    () => {
      const x = in_(n, 0)
      const kept = (n.attributes["keepdims"] as { int: number }).int === 1
      if (kept || dy.shape.length === 0) return Op.expandLike(dy, x)
      const axes = reducedAxes(n)
      const shape = x.shape.map((d, i) => (axes.includes(i) ? 1 : d))
      return Op.expandLike(Graph.node(dy.graph, "Unsqueeze", [dy, in_(n, 1)], [{ dtype: dy.dtype, shape }])[0]!, x)
    },
    null
  ],
  Concat: (n, dy) => {
    const axis = (n.attributes["axis"] as { int: number }).int
    const dims = n.inputs.map((x) => x!.shape[axis]!)
    let parts: ReadonlyArray<Value> | undefined
    const cut = () => {
      if (dims.every((d) => typeof d === "number")) return Op.split(dy, axis, dims)
      const at = Graph.constant(dy.graph, "int64", [1], [axis])
      const sizes = n.inputs.map((x) => Op.gather(Op.shapeOf(x!), at))
      return Op.splitBy(dy, axis, Op.concat(sizes, 0), dims)
    }
    return n.inputs.map((_, i) => () => (parts ??= cut())[i]!)
  },
  Softmax: (n, dy) => [
    () => {
      const weighted = Op.mul(dy, out(n))
      return Op.sub(weighted, Op.mul(out(n), Op.sum(weighted, [-1], true)))
    }
  ],
  LogSoftmax: (n, dy) => [() => Op.sub(dy, Op.mul(Op.exp(out(n)), Op.sum(dy, [-1], true)))],
  GatherElements: (n, dy) => [() => Op.scatterAddElements(Op.zerosLike(in_(n, 0)), in_(n, 1), dy), null],
  Gather: (n, dy) => [() => Op.scatterAddRows(Op.zerosLike(in_(n, 0)), in_(n, 1), dy), null],
  MatMul: matmul,
  FusedMatMul: matmul,
  // y = x r w with r = 1/sqrt(mean(x²)+eps):  dx = r (dy w) − x r² mean(dy y),  dw = Σ dy x r
  SimplifiedLayerNormalization: (n, dy) => {
    const [x, w, r] = [in_(n, 0), in_(n, 1), n.outputs[1]!]
    const width = Number(x.shape.at(-1))
    return [
      () => {
        const projection = Op.scale(Op.sum(Op.mul(dy, out(n)), [-1], true), 1 / width)
        return Op.sub(Op.mul(Op.mul(dy, w), r), Op.mul(x, Op.mul(Op.mul(r, r), projection)))
      },
      () => unbroadcast(Op.mul(dy, Op.mul(x, r)), w.shape)
    ]
  },
  // A rotation's transpose is the rotation by the opposite angle.
  RotaryEmbedding: (n, dy) => {
    const attr = n.attributes as { num_heads?: { int: number }; rotary_embedding_dim?: { int: number } }
    const partial =
      attr.num_heads === undefined ? undefined : { heads: attr.num_heads.int, dims: attr.rotary_embedding_dim!.int }
    return [() => Op.rotary(dy, in_(n, 1), in_(n, 2), Op.neg(in_(n, 3)), partial), null, null, null]
  },
  // y = x s with s = sigmoid(x):  dx = dy (s + y (1 − s))
  QuickGelu: (n, dy) => [
    () => {
      const s = Op.sigmoid(in_(n, 0))
      return Op.mul(dy, Op.add(s, Op.mul(out(n), Op.sub(Graph.scalar(dy.graph, 1), s))))
    }
  ],
  // t = tanh(√(2/π) (x + a x³)):  dx = dy (½ (1 + t) + ½ x (1 − t²) √(2/π) (1 + 3 a x²))
  Gelu: (n, dy) => [
    () => {
      const x = in_(n, 0)
      const one = Graph.scalar(dy.graph, 1)
      const [c, a] = [Math.sqrt(2 / Math.PI), 0.044715]
      const square = Op.mul(x, x)
      const t = Op.tanh(Op.mul(Op.scale(x, c), Op.shift(Op.scale(square, a), 1)))
      const slope = Op.mul(Op.mul(x, Op.sub(one, Op.mul(t, t))), Op.shift(Op.scale(square, 3 * a * c), c))
      return Op.mul(dy, Op.scale(Op.add(Op.shift(t, 1), slope), 0.5))
    }
  ]
}

const reducedAxes = (node: Node): ReadonlyArray<number> => {
  const axes = node.inputs[1]!
  const stored = axes.graph.initializers.find((i) => i.value === axes)
  if (stored?.data._tag !== "inline")
    return Graph.fail(axes.graph, "ReduceSum", node.inputs, "its axes are not constant")
  return Array.from(new BigInt64Array(stored.data.bytes.slice().buffer), Number)
}
