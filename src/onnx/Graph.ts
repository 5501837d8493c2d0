/**
 * Graph: an ONNX graph under construction, with typed handles.
 *
 * Every value carries its dtype and shape, so a mistake fails where it is made, when the graph is built, with the
 * operator, the shapes and the label of the place. A dimension is a number or a symbol (`"B"`, `"T"`): one graph
 * serves every batch size and length.
 *
 * Operators are in `Op.ts`, derivatives in `Gradient.ts`, the file format in `Proto.ts`.
 */

/** Element types that graphs here use. */
export type DType = "float32" | "float16" | "bfloat16" | "int64" | "int32" | "int8" | "uint8" | "bool"

/** A size: known, or a symbol that is equal wherever the same name stands. */
export type Dim = number | string

/** The size of each axis; a scalar has none. */
export type Shape = ReadonlyArray<Dim>

/** Values of node attributes. */
export type Attribute =
  | number
  | string
  | ReadonlyArray<number>
  | { readonly int: number }
  | { readonly ints: ReadonlyArray<number> }
  | Body

/** A handle to a tensor of the graph. */
export interface Value {
  readonly graph: Graph
  readonly name: string
  readonly dtype: DType
  readonly shape: Shape
}

/** An operator's application. */
export interface Node {
  readonly op: string
  readonly domain: string
  readonly inputs: ReadonlyArray<Value | null>
  readonly outputs: ReadonlyArray<Value>
  readonly attributes: Readonly<Record<string, Attribute>>
  readonly label: string
}

/** A part of the graph that is repeated. It reads what is outside of it by name. */
export interface Body {
  /** The number of the repetition, whether it is to take place, and what is carried. */
  readonly inputs: ReadonlyArray<Value>
  readonly nodes: ReadonlyArray<Node>
  /** What is carried on, then what is collected. */
  readonly outputs: ReadonlyArray<Value>
}

/** A tensor stored in the graph itself, or as a part of a file (ONNX external data). */
export interface Initializer {
  readonly value: Value
  readonly data:
    | { readonly _tag: "inline"; readonly bytes: Uint8Array }
    | { readonly _tag: "external"; readonly location: string; readonly offset: number; readonly length: number }
}

/** A derivative given by hand for a part of the graph. */
export interface CustomGradient {
  readonly inputs: ReadonlyArray<Value>
  readonly output: Value
  /**
   * From the output's gradient to those of the inputs. Values of the forward pass are asked for by `kept`: where they
   * are computed again, it gives those of the backward pass.
   */
  readonly vjp: (gradient: Value, kept: (value: Value) => Value) => ReadonlyArray<Value | null>
}

/** A graph under construction. Mutable, and only mutated by the functions of this module. */
export interface Graph {
  readonly name: string
  readonly nodes: Array<Node>
  readonly inputs: Array<Value>
  readonly outputs: Array<{ readonly name: string; readonly value: Value }>
  readonly initializers: Array<Initializer>
  readonly customGradients: Map<Value, CustomGradient>
  readonly constants: Map<string, Value>
  readonly scope: Array<string>
  counter: number
}

/** A mistake in the construction of a graph: a defect of the program, not of its data. */
export class GraphError extends Error {
  override readonly name = "GraphError"
}

/** An empty graph. */
export const make = (name: string): Graph => ({
  name,
  nodes: [],
  inputs: [],
  outputs: [],
  initializers: [],
  customGradients: new Map(),
  constants: new Map(),
  scope: [],
  counter: 0
})

/** `[2, "T", 64]` as a person reads it. */
export const formatShape = (shape: Shape): string => `[${shape.join(", ")}]`

/** Fails the construction with the operator, the shapes and the place. */
export const fail = (graph: Graph, op: string, inputs: ReadonlyArray<Value | null>, why: string): never => {
  const shapes = inputs.map((v) => (v === null ? "-" : `${v.dtype}${formatShape(v.shape)} ${v.name}`)).join(", ")
  const place = graph.scope.length === 0 ? graph.name : `${graph.name}/${graph.scope.join("/")}`
  throw new GraphError(`${op} at ${place}: ${why} (inputs: ${shapes})`)
}

/** Runs `build` with `label` added to the names and errors of what it adds. */
export const labelled = <A>(graph: Graph, label: string, build: () => A): A => {
  graph.scope.push(label)
  try {
    return build()
  } finally {
    graph.scope.pop()
  }
}

const fresh = (graph: Graph, hint: string): string =>
  `${graph.scope.length === 0 ? "" : `${graph.scope.join("/")}/`}${hint}_${graph.counter++}`

/** Names that the world knows a tensor by: two tensors cannot share one. */
const claim = (graph: Graph, op: string, name: string): void => {
  const names = [...graph.inputs, ...graph.initializers.map((i) => i.value), ...graph.outputs]
  if (names.some((known) => known.name === name)) fail(graph, op, [], `the name ${name} is already used`)
}

/** A tensor fed at each run. */
export const input = (graph: Graph, name: string, dtype: DType, shape: Shape): Value => {
  claim(graph, "input", name)
  const value: Value = { graph, name, dtype, shape }
  graph.inputs.push(value)
  return value
}

/** Names a value as a result of the graph; results are fetched by name. */
export const output = (graph: Graph, name: string, value: Value): void => {
  if (value.graph !== graph) fail(graph, "output", [value], `${name} belongs to another graph (${value.graph.name})`)
  claim(graph, "output", name)
  graph.outputs.push({ name, value })
}

/** A constant kept in the graph. */
export const constant = (
  graph: Graph,
  dtype: "float32" | "int64" | "uint8" | "bool",
  shape: ReadonlyArray<number>,
  data: ArrayLike<number>
): Value => {
  const size = shape.reduce((a, b) => a * b, 1)
  if (size !== data.length) fail(graph, "constant", [], `${data.length} numbers for shape ${formatShape(shape)}`)
  const key =
    size <= 8
      ? `${dtype}:${shape.join(",")}:${Array.from(data, (x) => (Object.is(x, -0) ? "-0" : x)).join(",")}`
      : undefined
  const known = key === undefined ? undefined : graph.constants.get(key)
  if (known !== undefined) return known
  const bytes =
    dtype === "float32"
      ? new Uint8Array(new Float32Array(data).buffer)
      : dtype === "int64"
        ? new Uint8Array(BigInt64Array.from(Array.from(data), BigInt).buffer)
        : new Uint8Array(data)
  const value: Value = { graph, name: `constant_${graph.counter++}`, dtype, shape }
  graph.initializers.push({ value, data: { _tag: "inline", bytes } })
  if (key !== undefined) graph.constants.set(key, value)
  return value
}

/** A float32 scalar. */
export const scalar = (graph: Graph, x: number): Value => constant(graph, "float32", [], [x])

/** A tensor that lies in a file, for example inside `model.safetensors`; the location is relative to the session's folder. */
export const external = (
  graph: Graph,
  name: string,
  dtype: DType,
  shape: ReadonlyArray<number>,
  where: { readonly location: string; readonly offset: number; readonly length: number }
): Value => {
  claim(graph, "external", name)
  const value: Value = { graph, name, dtype, shape }
  graph.initializers.push({ value, data: { _tag: "external", ...where } })
  return value
}

/**
 * A stored tensor under a name of its own, for one more use: where the runtime turns a tensor's signed bytes into
 * unsigned ones, it cannot do so for two products of one tensor. Other values are their own twins.
 */
export const twin = (value: Value): Value => {
  const { graph, name, shape } = value
  const stored = value.dtype === "int8" ? graph.initializers.find((i) => i.value === value)?.data : undefined
  if (stored?._tag !== "external") return value
  const { length, location, offset } = stored
  return external(graph, fresh(graph, name), "int8", shape as ReadonlyArray<number>, { location, offset, length })
}

/** Adds an operator. Operators of `Op.ts` check their inputs and derive dtype and shape before they call this. */
export const node = (
  graph: Graph,
  op: string,
  inputs: ReadonlyArray<Value | null>,
  outputs: ReadonlyArray<{ readonly dtype: DType; readonly shape: Shape }>,
  attributes: Readonly<Record<string, Attribute>> = {},
  domain = ""
): ReadonlyArray<Value> => {
  for (const value of inputs) {
    if (value !== null && value.graph !== graph) fail(graph, op, inputs, `${value.name} belongs to another graph`)
  }
  const values = outputs.map((o): Value => ({ graph, name: fresh(graph, op), dtype: o.dtype, shape: o.shape }))
  graph.nodes.push({ op, domain, inputs, outputs: values, attributes, label: graph.scope.join("/") })
  return values
}

/** What a repetition makes of what it is given. */
export interface Repetition {
  /** What the next repetition is given, in the order of the initial values; shapes may grow. */
  readonly carried: ReadonlyArray<Value>
  /** Of each repetition one entry of the result. */
  readonly collected: ReadonlyArray<Value>
}

/**
 * Repeats a part of the graph `count` times (int64 scalar): `build` is given the number of the repetition, int64 from 0,
 * and what is carried, first the initial values, of which a growing axis has its name by `shape`. The results are what
 * was carried at last, and what was collected, stacked along a new first axis `size`. No gradient.
 *
 * What does not depend on the repetition is computed once, before them.
 */
export const repeat = (
  graph: Graph,
  count: Value,
  size: Dim,
  initial: ReadonlyArray<{ readonly value: Value; readonly shape?: Shape }>,
  build: (repetition: Value, carried: ReadonlyArray<Value>) => Repetition
): Repetition => {
  const entering = (hint: string, dtype: DType, shape: Shape): Value => ({
    graph,
    name: fresh(graph, hint),
    dtype,
    shape
  })
  const carried = initial.map(({ shape, value }) => entering("carried", value.dtype, shape ?? value.shape))
  const repetition = entering("repetition", "int64", [])
  const inputs = [repetition, entering("goes_on", "bool", []), ...carried]
  const before = graph.nodes.length
  const made = build(repetition, carried)
  if (made.carried.length !== carried.length) {
    fail(graph, "Loop", made.carried, `${carried.length} values are to be carried on`)
  }
  const inside = new Set<Value | null>(inputs)
  const nodes: Array<Node> = []
  for (const node of graph.nodes.splice(before)) {
    if (node.inputs.some((value) => inside.has(value))) {
      nodes.push(node)
      for (const value of node.outputs) inside.add(value)
    } else {
      graph.nodes.push(node)
    }
  }
  const results = node(
    graph,
    "Loop",
    [count, null, ...initial.map(({ value }) => value)],
    [
      ...carried.map(({ dtype, shape }) => ({ dtype, shape })),
      ...made.collected.map(({ dtype, shape }) => ({ dtype, shape: [size, ...shape] }))
    ],
    { body: { inputs, nodes, outputs: [...made.carried, ...made.collected] } }
  )
  return { carried: results.slice(0, carried.length), collected: results.slice(carried.length) }
}

/** Gives the part of the graph from `inputs` to `output` a derivative by hand, which is cheaper than the derived one. */
export const withGradient = (inputs: ReadonlyArray<Value>, output: Value, vjp: CustomGradient["vjp"]): Value => {
  output.graph.customGradients.set(output, { inputs, output, vjp })
  return output
}
