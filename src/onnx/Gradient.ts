/**
 * Gradient: reverse-mode differentiation of graphs, from one table of vector-Jacobian products.
 *
 * The table is sorted from simple to complex. For y = f(x₁, …) and the gradient dy of the loss with respect to y, each
 * entry gives the gradients of the loss with respect to the inputs, as functions that are called only for inputs that
 * lead to a parameter: a frozen weight costs nothing. `test/onnx/Gradient.test.ts` holds
 * every entry against central differences.
 */
import * as Graph from "./Graph.ts"
import type { Node, Shape, Value } from "./Graph.ts"
import * as Op from "./Op.ts"

type Vjp = (node: Node, dy: Value) => ReadonlyArray<(() => Value) | null>

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
const floating = new Set<Graph.DType>(["float32", "float16", "bfloat16"])

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

const table: Readonly<Record<string, Vjp>> = {
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
  // y = x r w with r = 1/sqrt(mean(x²)+eps):  dx = r (dy w) − x r³ mean(x dy w),  dw = Σ dy x r
  SimplifiedLayerNormalization: (n, dy) => {
    const [x, w, r] = [in_(n, 0), in_(n, 1), n.outputs[1]!]
    const width = Number(x.shape.at(-1))
    return [
      () => {
        const unit = Op.mul(x, r)
        const dunit = Op.mul(dy, w)
        const projection = Op.scale(Op.sum(Op.mul(unit, dunit), [-1], true), 1 / width)
        return Op.mul(r, Op.sub(dunit, Op.mul(unit, projection)))
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

/** The operators that have a derivative. */
export const differentiable: ReadonlyArray<string> = Object.keys(table)

/**
 * What is computed again in the backward pass instead of kept from the forward pass (Chen et al. 2016, "Training deep
 * nets with sublinear memory cost"): of each segment only what comes into it is kept.
 */
export interface Recompute {
  /** The segment that a node belongs to, if any; the nodes of a segment follow each other. */
  readonly segment: (node: Node) => string | undefined
  /** The inputs that activations depend on. What does not depend on them, such as a mask, is kept. */
  readonly from: ReadonlyArray<Value>
}

/**
 * Adds the gradients of a scalar loss with respect to `parameters` and returns them in that order. A parameter on
 * which the loss does not depend gets zeros.
 *
 * Throws `GraphError` when the loss is no scalar, depends on none of the parameters, or on one through an operator
 * without a derivative.
 */
export const gradients = (
  loss: Value,
  parameters: ReadonlyArray<Value>,
  recompute?: Recompute
): ReadonlyArray<Value> => {
  const graph = loss.graph
  if (loss.shape.length !== 0) Graph.fail(graph, "gradients", [loss], "the loss must be a scalar")
  return Graph.labelled(graph, "gradient", () => {
    const forward = graph.nodes.slice()
    const needed = dependents(graph, forward, parameters)
    const again = recompute === undefined ? keptNode : recomputed(graph, forward, recompute)
    const arrived = new Map<Value, Array<Value>>([[loss, [Graph.scalar(graph, 1)]]])
    const total = (value: Value): Value | undefined => {
      const parts = arrived.get(value)
      return parts === undefined ? undefined : parts.reduce((a, b) => Op.add(a, b))
    }
    const give = (value: Value | null | undefined, gradient: (() => Value) | null | undefined): void => {
      if (value === null || value === undefined || gradient === null || gradient === undefined) return
      if (!needed.has(value)) return
      const parts = arrived.get(value)
      if (parts === undefined) arrived.set(value, [gradient()])
      else parts.push(gradient())
    }
    for (const node of forward.toReversed()) {
      const custom = graph.customGradients.get(node.outputs[0]!)
      if (!(custom ?? node).inputs.some((x) => x !== null && needed.has(x))) continue
      if (node.op === "Split") {
        if (!node.outputs.some((o) => arrived.has(o))) continue
        const parts = node.outputs.map((o) => total(o) ?? Op.zerosLike(o))
        const axis = (node.attributes["axis"] as { int: number }).int
        give(node.inputs[0], () => Op.concat(parts, axis, in_(node, 0).shape[axis]!))
        continue
      }
      const dy = total(node.outputs[0]!)
      if (dy === undefined) continue
      const { node: used, value } = again(node, dy)
      if (custom !== undefined) {
        const given = custom.vjp(dy, value)
        custom.inputs.forEach((x, i) => give(x, given[i] === null ? null : () => given[i]!))
        continue
      }
      const vjp = table[node.op]
      if (vjp === undefined) return Graph.fail(graph, node.op, node.inputs, `it has no derivative (in ${node.label})`)
      const given = vjp(used, dy)
      node.inputs.forEach((x, i) => give(x, given[i]))
    }
    if (!parameters.some((p) => arrived.has(p))) {
      Graph.fail(graph, "gradients", [loss], "the loss depends on nothing that is trained")
    }
    return parameters.map((p) => total(p) ?? Op.zerosLike(p))
  })
}

/** A node of the forward pass as the backward pass sees it, with the values around it. */
interface Again {
  readonly node: Node
  readonly value: (value: Value) => Value
}

const keptNode = (node: Node): Again => ({ node, value: (value) => value })

/**
 * From a node to its copy in the backward pass. A segment is copied when its first gradient arrives, and its inputs are
 * made to depend on that gradient: without this the runtime would merge the copies with what they copy, or compute them
 * early, and keep everything all the same.
 */
const recomputed = (graph: Graph.Graph, forward: ReadonlyArray<Node>, { from, segment }: Recompute) => {
  const active = dependents(graph, forward, from)
  const copies = new Map<Node, Node>()
  const segments = new Map<string, ReadonlyMap<Value, Value>>()
  const copy = (name: string, dy: Value): ReadonlyMap<Value, Value> => {
    const values = new Map<Value, Value>()
    const nothing = Op.scale(Op.sumAll(dy), 0)
    const own = forward.filter((node) => segment(node) === name && node.inputs.some((x) => x !== null && active.has(x)))
    const inside = new Set(own.flatMap((node) => node.outputs))
    const input = (x: Value | null): Value | null => {
      if (x === null) return x
      if (!active.has(x)) return Graph.twin(x)
      // The 8-bit codes of activations are made again, too; indices and shapes are kept.
      if (!floating.has(x.dtype)) return x.dtype === "uint8" ? (values.get(x) ?? x) : x
      if (!inside.has(x) && !values.has(x)) values.set(x, Op.add(x, nothing))
      return values.get(x) ?? x
    }
    for (const node of own) {
      const inputs = node.inputs.map(input)
      const outputs = Graph.node(graph, node.op, inputs, node.outputs, node.attributes, node.domain)
      node.outputs.forEach((value, i) => values.set(value, outputs[i]!))
      copies.set(node, { ...node, inputs, outputs })
    }
    return values
  }
  return (node: Node, dy: Value): Again => {
    const name = segment(node)
    if (name === undefined) return keptNode(node)
    const values = segments.get(name) ?? copy(name, dy)
    segments.set(name, values)
    return { node: copies.get(node) ?? node, value: (value) => values.get(value) ?? value }
  }
}

/** The values that depend on a parameter: only these need gradients. */
const dependents = (graph: Graph.Graph, nodes: ReadonlyArray<Node>, parameters: ReadonlyArray<Value>): Set<Value> => {
  const needed = new Set<Value>(parameters)
  for (const node of nodes) {
    const custom = graph.customGradients.get(node.outputs[0]!)
    const inputs = custom === undefined ? node.inputs : custom.inputs
    if (inputs.some((x) => x !== null && needed.has(x))) for (const o of node.outputs) needed.add(o)
  }
  return needed
}
