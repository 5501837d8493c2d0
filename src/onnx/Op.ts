/**
 * Op: the operators that Charter's networks, objectives and optimizers are made of.
 *
 * Each checks its inputs and derives the dtype and shape of its result; a mistake names the operator, the shapes and
 * the place (see `Graph.fail`). Shapes may hold symbols. Semantics are those of ONNX opset 21 and ONNX Runtime's
 * `com.microsoft` domain.
 */
import * as Graph from "./Graph.ts"
import type { Dim, DType, Shape, Value } from "./Graph.ts"
import * as Proto from "./Proto.ts"

/** An operator's application with one result. */
export const one = (
  op: string,
  inputs: ReadonlyArray<Value | null>,
  dtype: DType,
  shape: Shape,
  attributes: Readonly<Record<string, Graph.Attribute>> = {},
  domain = ""
): Value => {
  const graph = inputs.find((v) => v !== null)!.graph
  return Graph.node(graph, op, inputs, [{ dtype, shape }], attributes, domain)[0]!
}

const axisOf = (op: string, x: Value, axis: number): number => {
  const positive = axis < 0 ? axis + x.shape.length : axis
  if (positive < 0 || positive >= x.shape.length) Graph.fail(x.graph, op, [x], `there is no axis ${axis}`)
  return positive
}

/** Fails where an input has another dtype. */
export const wants = (op: string, dtype: DType, ...inputs: ReadonlyArray<Value>): void => {
  for (const x of inputs) if (x.dtype !== dtype) Graph.fail(x.graph, op, inputs, `${x.name} must be ${dtype}`)
}

/** The shape of two tensors broadcast against each other, numpy's rule. */
export const broadcast = (op: string, inputs: ReadonlyArray<Value>): Shape => {
  const rank = Math.max(...inputs.map((v) => v.shape.length))
  return Array.from({ length: rank }, (_, i): Dim => {
    let dim: Dim = 1
    for (const v of inputs) {
      const d = v.shape[i - rank + v.shape.length] ?? 1
      if (d === 1 || d === dim) continue
      if (dim !== 1) Graph.fail(v.graph, op, inputs, `the shapes do not broadcast (${dim} against ${d})`)
      dim = d
    }
    return dim
  })
}

const binary =
  (op: string, result?: DType) =>
  (a: Value, b: Value): Value => {
    if (a.dtype !== b.dtype) Graph.fail(a.graph, op, [a, b], "the dtypes differ")
    return one(op, [a, b], result ?? a.dtype, broadcast(op, [a, b]))
  }

const unary =
  (op: string) =>
  (x: Value): Value => {
    wants(op, "float32", x)
    return one(op, [x], x.dtype, x.shape)
  }

// Element by element, the smaller operand repeated as numpy does; comparisons give bool.

export const add = binary("Add")
export const sub = binary("Sub")
export const mul = binary("Mul")
export const div = binary("Div")
export const minimum = binary("Min")
export const maximum = binary("Max")
export const greater = binary("Greater", "bool")
export const greaterOrEqual = binary("GreaterOrEqual", "bool")
export const equal = binary("Equal", "bool")

// Element by element, of float32.

export const neg = unary("Neg")
export const exp = unary("Exp")
export const log = unary("Log")
export const sqrt = unary("Sqrt")
export const reciprocal = unary("Reciprocal")
export const sigmoid = unary("Sigmoid")
export const tanh = unary("Tanh")
export const abs = unary("Abs")
/** log(1 + e^x), stable for large x. */
export const softplus = unary("Softplus")

/** `x + c`, `x * c` with a number. */
export const shift = (x: Value, c: number): Value => add(x, Graph.scalar(x.graph, c))
export const scale = (x: Value, c: number): Value => mul(x, Graph.scalar(x.graph, c))

/** Limits `x` to [low, high]; the gradient is zero outside. */
export const clip = (x: Value, low: number, high: number): Value =>
  minimum(maximum(x, Graph.scalar(x.graph, low)), Graph.scalar(x.graph, high))

/** `condition ? a : b`, element by element. */
export const where = (condition: Value, a: Value, b: Value): Value => {
  wants("Where", "bool", condition)
  if (a.dtype !== b.dtype) Graph.fail(a.graph, "Where", [condition, a, b], "the dtypes differ")
  return one("Where", [condition, a, b], a.dtype, broadcast("Where", [condition, a, b]))
}

/** Another dtype. No gradient flows through casts of other than floating types. */
export const cast = (x: Value, dtype: DType): Value =>
  one("Cast", [x], dtype, x.shape, { to: { int: Proto.dataType(dtype) } })

/** Axes in another order. */
export const transpose = (x: Value, perm: ReadonlyArray<number>): Value => {
  if (
    perm.length !== x.shape.length ||
    new Set(perm).size !== perm.length ||
    perm.some((p) => p < 0 || p >= perm.length)
  ) {
    Graph.fail(x.graph, "Transpose", [x], `${Graph.formatShape(perm)} is no order of its axes`)
  }
  return one(
    "Transpose",
    [x],
    x.dtype,
    perm.map((p) => x.shape[p]!),
    { perm: { ints: perm } }
  )
}

/**
 * The same elements in another shape. A symbol that stands at the same place in the input is copied; one further
 * symbol may be derived from the number of elements.
 */
export const reshape = (x: Value, shape: Shape): Value => {
  let derived = 0
  const target = shape.map((dim, i) => {
    if (typeof dim === "number") return dim
    if (x.shape[i] === dim) return 0
    derived++
    return -1
  })
  if (derived > 1) Graph.fail(x.graph, "Reshape", [x], `${Graph.formatShape(shape)} has two sizes to derive`)
  const sizes = [x.shape, shape].map((s) => s.reduce<number>((n, d) => (typeof d === "number" ? n * d : n), 1))
  const symbols = [x.shape, shape].map((s) =>
    s
      .filter((d) => typeof d === "string")
      .toSorted()
      .join()
  )
  if (symbols[0] === symbols[1] && sizes[0] !== sizes[1]) {
    Graph.fail(x.graph, "Reshape", [x], `${Graph.formatShape(shape)} has another number of elements`)
  }
  return one("Reshape", [x, Graph.constant(x.graph, "int64", [shape.length], target)], x.dtype, shape)
}

/** The size of each axis as int64, for operators that need a symbol's value. */
export const shapeOf = (x: Value): Value => one("Shape", [x], "int64", [x.shape.length])

/** Zeros of the shape of `x`. */
export const zerosLike = (x: Value): Value => one("ConstantOfShape", [shapeOf(x)], "float32", x.shape)

/** `x` repeated to the shape of `like`. */
export const expandLike = (x: Value, like: Value): Value => {
  const shape = broadcast("Expand", [x, like])
  if (shape.some((d, i) => d !== like.shape[i])) Graph.fail(x.graph, "Expand", [x, like], "the first is the larger one")
  return one("Expand", [x, shapeOf(like)], x.dtype, like.shape)
}

/** `x` repeated to a known shape. */
export const expand = (x: Value, shape: ReadonlyArray<number>): Value => {
  if (broadcast("Expand", [x, { ...x, shape }]).some((d, i) => d !== shape[i])) {
    Graph.fail(x.graph, "Expand", [x], `it is larger than ${Graph.formatShape(shape)}`)
  }
  return one("Expand", [x, Graph.constant(x.graph, "int64", [shape.length], shape)], x.dtype, shape)
}

/** Tensors one after the other along an axis. */
export const concat = (inputs: ReadonlyArray<Value>, axis: number, size?: Dim): Value => {
  const first = inputs[0]!
  const at = axisOf("Concat", first, axis)
  for (const x of inputs) {
    const rank = x.shape.length === first.shape.length
    if (!rank || x.dtype !== first.dtype || x.shape.some((d, i) => i !== at && d !== first.shape[i])) {
      Graph.fail(first.graph, "Concat", inputs, "only the joined axis may differ")
    }
  }
  const sizes = inputs.map((x) => x.shape[at]!)
  const total =
    size ?? (sizes.every((d) => typeof d === "number") ? sizes.reduce<number>((a, b) => a + Number(b), 0) : undefined)
  if (total === undefined) return Graph.fail(first.graph, "Concat", inputs, "the joined size needs a name")
  return one(
    "Concat",
    inputs,
    first.dtype,
    first.shape.map((d, i) => (i === at ? total : d)),
    { axis: { int: at } }
  )
}

/** Parts of given sizes along an axis. */
export const split = (x: Value, axis: number, sizes: ReadonlyArray<number>): ReadonlyArray<Value> => {
  const at = axisOf("Split", x, axis)
  const total = sizes.reduce((a, b) => a + b, 0)
  if (total !== x.shape[at]) Graph.fail(x.graph, "Split", [x], `the parts sum to ${total}`)
  return Graph.node(
    x.graph,
    "Split",
    [x, Graph.constant(x.graph, "int64", [sizes.length], sizes)],
    sizes.map((size) => ({ dtype: x.dtype, shape: x.shape.map((d, i) => (i === at ? size : d)) })),
    { axis: { int: at } }
  )
}

/** Parts along an axis whose sizes (int64, one for each of `dims`) are known at the run. */
export const splitBy = (x: Value, axis: number, sizes: Value, dims: ReadonlyArray<Dim>): ReadonlyArray<Value> => {
  const at = axisOf("Split", x, axis)
  wants("Split", "int64", sizes)
  if (sizes.shape.length !== 1 || sizes.shape[0] !== dims.length) {
    Graph.fail(x.graph, "Split", [x, sizes], `${dims.length} parts need as many sizes`)
  }
  return Graph.node(
    x.graph,
    "Split",
    [x, sizes],
    dims.map((dim) => ({ dtype: x.dtype, shape: x.shape.map((d, i) => (i === at ? dim : d)) })),
    { axis: { int: at } }
  )
}

/** Rows of `x` by index along axis 0: [V, ...] and int64 [..indices] give [..indices, ...]. */
export const gather = (x: Value, indices: Value): Value => {
  wants("Gather", "int64", indices)
  if (x.shape.length === 0) Graph.fail(x.graph, "Gather", [x, indices], "a scalar has no rows")
  return one("Gather", [x, indices], x.dtype, [...indices.shape, ...x.shape.slice(1)], { axis: { int: 0 } })
}

/** One element of each row of the last axis: x [..., V] and int64 [..., K] give [..., K]. */
export const gatherElements = (x: Value, indices: Value): Value => {
  wants("GatherElements", "int64", indices)
  if (indices.shape.length !== x.shape.length || x.shape.slice(0, -1).some((d, i) => d !== indices.shape[i])) {
    Graph.fail(x.graph, "GatherElements", [x, indices], "all but the last axis must be equal")
  }
  return one("GatherElements", [x, indices], x.dtype, indices.shape, { axis: { int: x.shape.length - 1 } })
}

const scatterAdd = (x: Value, indices: Value, updates: Value, axis: number): Value => {
  wants("ScatterElements", "int64", indices)
  const fits = (a: Shape, b: Shape) => a.length === b.length && a.every((d, i) => i === axis || d === b[i])
  if (
    !fits(x.shape, indices.shape) ||
    !fits(updates.shape, indices.shape) ||
    updates.shape[axis] !== indices.shape[axis]
  ) {
    Graph.fail(x.graph, "ScatterElements", [x, indices, updates], "indices and updates must be of one shape, as x is")
  }
  return one("ScatterElements", [x, indices, updates], x.dtype, x.shape, { axis: { int: axis }, reduction: "add" })
}

/** Adds `updates` [..., K] to `x` [..., V] at `indices` [..., K] of the last axis. */
export const scatterAddElements = (x: Value, indices: Value, updates: Value): Value =>
  scatterAdd(x, indices, updates, x.shape.length - 1)

/** The number of elements of a shape: a number, or a symbol that names the product. */
export const product = (shape: Shape): Dim =>
  shape.every((d) => typeof d === "number") ? shape.reduce<number>((a, b) => a * Number(b), 1) : shape.join("*")

/**
 * Adds rows `updates` [..indices, ...] to `x` [V, ...] at int64 `indices`. Where `indices` has several axes, the
 * rows' own sizes are numbers.
 *
 * `ScatterND` would say it shorter, but ONNX Runtime adds its rows in parallel without a lock and loses some where an
 * index occurs twice (https://github.com/microsoft/onnxruntime/issues/23396); `ScatterElements` adds in order.
 */
export const scatterAddRows = (x: Value, indices: Value, updates: Value): Value => {
  const width = x.shape.slice(1)
  const rows = product(indices.shape)
  const column = reshape(reshape(indices, [rows]), [rows, ...width.map(() => 1)])
  const flat = reshape(updates, [rows, ...width])
  return scatterAdd(x, expandLike(column, flat), flat, 0)
}

/** What a matrix product may do on the way. */
export interface MatmulOptions {
  readonly transA?: boolean
  readonly transB?: boolean
  readonly alpha?: number
}

/** alpha · op(a) · op(b) over the last two axes, where op transposes on request; the leading axes broadcast. */
export const matmul = (a: Value, b: Value, options: MatmulOptions = {}): Value => {
  const { alpha = 1, transA = false, transB = false } = options
  wants("MatMul", "float32", a, b)
  if (a.shape.length < 2 || b.shape.length < 2) Graph.fail(a.graph, "MatMul", [a, b], "both must have two axes or more")
  const [m, k] = transA ? [a.shape.at(-1)!, a.shape.at(-2)!] : [a.shape.at(-2)!, a.shape.at(-1)!]
  const [k2, n] = transB ? [b.shape.at(-1)!, b.shape.at(-2)!] : [b.shape.at(-2)!, b.shape.at(-1)!]
  if (k !== k2) Graph.fail(a.graph, "MatMul", [a, b], `the inner sizes ${k} and ${k2} differ`)
  const outer = broadcast("MatMul", [
    { ...a, shape: a.shape.slice(0, -2) },
    { ...b, shape: b.shape.slice(0, -2) }
  ])
  const shape = [...outer, m, n]
  if (!transA && !transB && alpha === 1) return one("MatMul", [a, b], "float32", shape)
  const attributes = { transA: { int: Number(transA) }, transB: { int: Number(transB) }, alpha }
  return one("FusedMatMul", [a, b], "float32", shape, attributes, "com.microsoft")
}

/**
 * alpha · xᵀ y over the last two axes. Where x is the long one (attention's weights, [T, T]), (yᵀ x)ᵀ is computed
 * instead: transposing the narrow operand and result is several times cheaper.
 */
export const outer = (x: Value, y: Value, alpha = 1): Value => {
  const narrow = typeof x.shape.at(-1) === "string" && typeof y.shape.at(-1) === "number"
  if (!narrow) return matmul(x, y, { transA: true, alpha })
  const turned = matmul(y, x, { transA: true, alpha })
  const axes = turned.shape.map((_, i) => i)
  return transpose(turned, [...axes.slice(0, -2), axes.length - 1, axes.length - 2])
}

const reduced = (op: string, x: Value, axes: ReadonlyArray<number>, keep: boolean): Value => {
  // The runtime takes no axes to mean all of them.
  if (axes.length === 0) return x
  wants(op, "float32", x)
  const at = axes.map((axis) => axisOf(op, x, axis))
  const shape = keep ? x.shape.map((d, i) => (at.includes(i) ? 1 : d)) : x.shape.filter((_, i) => !at.includes(i))
  return one(op, [x, Graph.constant(x.graph, "int64", [at.length], at)], x.dtype, shape, {
    keepdims: { int: Number(keep) }
  })
}

/** Sum over axes. */
export const sum = (x: Value, axes: ReadonlyArray<number>, keep = false): Value => reduced("ReduceSum", x, axes, keep)

/** Sum of all elements, a scalar. */
export const sumAll = (x: Value): Value =>
  sum(
    x,
    x.shape.map((_, i) => i)
  )

/** Largest element over axes. No gradient. */
export const max = (x: Value, axes: ReadonlyArray<number>, keep = false): Value => reduced("ReduceMax", x, axes, keep)

/** Index of the largest element of the last axis, int64. No gradient. */
export const argmax = (x: Value): Value =>
  one("ArgMax", [x], "int64", x.shape.slice(0, -1), { axis: { int: x.shape.length - 1 }, keepdims: { int: 0 } })

/** Running sum along the last axis. No gradient. */
export const cumsum = (x: Value): Value =>
  one("CumSum", [x, Graph.constant(x.graph, "int64", [], [x.shape.length - 1])], x.dtype, x.shape)

/** Softmax over the last axis. */
export const softmax = (x: Value): Value => one("Softmax", [x], x.dtype, x.shape, { axis: { int: -1 } })

/** log softmax over the last axis. */
export const logSoftmax = (x: Value): Value => one("LogSoftmax", [x], x.dtype, x.shape, { axis: { int: -1 } })

/** x · sigmoid(x) (Elfwing et al. 2017). */
export const silu = (x: Value): Value => {
  wants("QuickGelu", "float32", x)
  return one("QuickGelu", [x], x.dtype, x.shape, { alpha: 1 }, "com.microsoft")
}

/**
 * silu(gate) · x (Shazeer 2020). Its derivative is written by hand to save a pass: with s = sigmoid(gate) and
 * t = dy silu(gate), dx = t and dgate = x (t + s (dy − t)).
 */
export const swiglu = (gate: Value, x: Value): Value => {
  const activated = silu(gate)
  return Graph.withGradient([gate, x], mul(activated, x), (dy, kept) => {
    const dx = mul(dy, kept(activated))
    return [mul(kept(x), add(dx, mul(sigmoid(kept(gate)), sub(dy, dx)))), dx]
  })
}

/** GELU with the tanh approximation, 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))) (Hendrycks & Gimpel 2016). */
export const geluTanh = (x: Value): Value => {
  wants("Gelu", "float32", x)
  return one("Gelu", [x], x.dtype, x.shape, { approximate: "tanh" })
}

/** x / sqrt(mean(x²) + eps) · weight over the last axis (Zhang & Sennrich 2019). */
export const rmsNorm = (x: Value, weight: Value, epsilon: number): Value => {
  wants("RMSNorm", "float32", x, weight)
  if (weight.shape.length !== 1 || typeof weight.shape[0] !== "number" || weight.shape[0] !== x.shape.at(-1)) {
    Graph.fail(x.graph, "RMSNorm", [x, weight], "the weight must be as wide as the last axis")
  }
  return Graph.node(
    x.graph,
    "SimplifiedLayerNormalization",
    [x, weight],
    [
      { dtype: "float32", shape: x.shape },
      { dtype: "float32", shape: [...x.shape.slice(0, -1), 1] }
    ],
    { axis: { int: -1 }, epsilon, stash_type: { int: 1 } }
  )[0]!
}

/**
 * Rotary position embedding (Su et al. 2021), half-split pairing: x [B, T, heads·d] by int64 positions [B, T] with
 * tables cos and sin of [positions, d/2]. With `partial`, the tables are as wide as half of the dimensions that are
 * rotated, and the rest of each head is copied.
 */
export const rotary = (
  x: Value,
  positions: Value,
  cos: Value,
  sin: Value,
  partial?: { readonly heads: number; readonly dims: number }
): Value => {
  wants("Rotary", "int64", positions)
  if (x.shape.length !== 3 || positions.shape.length !== 2) {
    Graph.fail(x.graph, "Rotary", [x, positions], "it takes [B, T, width] and [B, T]")
  }
  return one(
    "RotaryEmbedding",
    [x, positions, cos, sin],
    x.dtype,
    x.shape,
    {
      interleaved: { int: 0 },
      ...(partial === undefined
        ? {}
        : { num_heads: { int: partial.heads }, rotary_embedding_dim: { int: partial.dims } })
    },
    "com.microsoft"
  )
}

/**
 * The log-probability of one token for each row: logits [N, V] and int64 [N] give [N]. Its derivative,
 * (onehot − softmax) · gradient, is written by hand to save passes over [N, V].
 */
export const tokenLogprobs = (logits: Value, tokens: Value): Value => {
  const logp = logSoftmax(logits)
  const at = reshape(tokens, [...tokens.shape, 1])
  const picked = reshape(gatherElements(logp, at), tokens.shape)
  return Graph.withGradient([logits], picked, (gradient) => {
    const column = reshape(gradient, [...tokens.shape, 1])
    return [scatterAddElements(mul(exp(logp), neg(column)), at, column)]
  })
}

/** `x` as it is, but no gradient flows back through it. */
export const detach = (x: Value): Value => Graph.withGradient([], one("Identity", [x], x.dtype, x.shape), () => [])
