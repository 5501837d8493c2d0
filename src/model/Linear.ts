/** Linear: the linear maps of a network, with their LoRAs and biases, in floats or in 8 bits. */
import * as Graph from "../onnx/Graph.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Op from "../onnx/Op.ts"
import * as Quantize from "../onnx/Quantize.ts"

/** The parameters of a network, by the names of its checkpoint. */
export interface Parameters {
  /** A tensor of the checkpoint. */
  readonly weight: (name: string) => Value
  /** Rows of a tensor by index, where there is a cheaper way than through the whole of it. */
  readonly rows?: (name: string, at: Value) => Value
  /** The two factors of a linear map's LoRA, if it has one: A [r, in], B [out, r]. */
  readonly lora?: (path: string) => { readonly a: Value; readonly b: Value; readonly scale: number } | undefined
  /**
   * How adapted maps are computed: `factored` adds B(Ax), good for few tokens; `merged` makes W + BA first, good for
   * many tokens, where two skinny products cost more than one dense one. `steady` is `factored` for few tokens, with
   * sums in the same order however many rows there are.
   */
  readonly adaptation?: "factored" | "merged" | "steady"
  /** A frozen linear map in 8 bits, if it has been quantised, for one use of it. */
  readonly quantized?: (path: string) => (() => QuantizedMap) | undefined
  /** The factors s [in] of a map whose input is divided by them (see `Smoothing.ts`); its 8 bits are of W diag(s). */
  readonly smoothing?: (path: string) => Value | undefined
  /** Told of the input of each linear map. */
  readonly observe?: (path: string, x: Value) => void
}

/** A linear map in 8 bits: int8 [in, out] with a scale for each output, [out]. */
export interface QuantizedMap {
  readonly weight: Value
  readonly scale: Value
}

/** The LoRA of a map whose sum with the frozen weight is made first; one with quantised weights would lose them. */
const mergedLora = ({ adaptation, lora, quantized }: Parameters, path: string) =>
  adaptation === "merged" && quantized?.(path) === undefined ? lora?.(path) : undefined

/** What is multiplied with a map's input, [.., in], for an input that is divided by factors. */
const smoothed = ({ smoothing }: Parameters, path: string, w: Value): Value => {
  const factors = smoothing?.(path)
  return factors === undefined ? w : Op.mul(w, factors)
}

/** A linear map without its bias: x [..., in] to [..., out]. */
export const product = (parameters: Parameters, path: string, weight: string, x: Value): Value => {
  const quantized = parameters.quantized?.(path)
  if (quantized !== undefined) {
    const { scale, weight } = quantized()
    return Quantize.matmul(x, weight, scale)
  }
  const w = parameters.weight(weight)
  const lora = mergedLora(parameters, path)
  const sum = lora === undefined ? w : Op.add(w, Op.matmul(lora.b, lora.a, { alpha: lora.scale }))
  return Op.matmul(x, smoothed(parameters, path, sum), { transB: true })
}

/**
 * Linear maps of the same x. In 8 bits, queries, keys and values are one product where few tokens are computed, as what
 * surrounds it costs more, and in learning, as their gradient is one product then, too. Elsewhere taking the result apart
 * costs more than it saves, as it does everywhere with the two wide maps of a feed-forward layer.
 */
const products = (parameters: Parameters, paths: ReadonlyArray<string>, x: Value): ReadonlyArray<Value> => {
  const quantized = paths.flatMap((path) => parameters.quantized?.(path) ?? [])
  if (parameters.adaptation === "merged" || paths.length < 3 || quantized.length < paths.length) {
    return paths.map((path) => product(parameters, path, `${path}.weight`, x))
  }
  const parts = quantized.map((use) => use())
  const [weights, scales] = [parts.map((part) => part.weight), parts.map((part) => part.scale)]
  const joined = Quantize.matmul(x, Op.concat(weights, 1), Op.concat(scales, 0))
  return Op.split(joined, -1, widths(scales))
}

/** The LoRA of a map. */
type Adapted = NonNullable<ReturnType<NonNullable<Parameters["lora"]>>> & { readonly path: string }

/** x [B, T, in] by the first factors [r, in] of LoRAs: [B, T, r] of each. */
const reductions = (parameters: Parameters, adapted: ReadonlyArray<Adapted>, x: Value): ReadonlyArray<Value> => {
  const factors = adapted.map(({ a }) => a)
  // Learning multiplies many tokens: one wider product, and a wider one for each gradient, instead of several thin ones.
  if (parameters.adaptation === "factored" && factors.length > 1) {
    // What x is divided by is the same for all maps of it.
    const all = smoothed(parameters, adapted[0]!.path, Op.concat(factors, 0))
    return Op.split(Op.matmul(x, all, { transB: true }), -1, widths(factors))
  }
  const own = adapted.map(({ a, path }) => smoothed(parameters, path, a))
  if (parameters.adaptation === "steady") return own.map((a) => reduced(x, a))
  return own.map((a) => Op.matmul(x, a, { transB: true }))
}

const widths = (values: ReadonlyArray<Value>): ReadonlyArray<number> => values.map(({ shape }) => Number(shape[0]))

/** Rows of a factor that are multiplied at a time. */
const part = 16

/**
 * x [B, T, in] by a first factor [r, in]: [B, T, r]. In parts of 16, the last filled up with zeros: the runtime cuts a
 * wider product among its threads as the number of rows suggests, and where it is cut, sums are rounded in another
 * order.
 */
const reduced = (x: Value, a: Value): Value => {
  const [rank, width] = a.shape as [number, number]
  if (rank <= part) return Op.matmul(x, a, { transB: true })
  const [B, T] = [x.shape[0]!, x.shape[1]!]
  const missing = (part - (rank % part)) % part
  const zeros = new Float32Array(missing * width)
  const whole = missing === 0 ? a : Op.concat([a, Graph.constant(a.graph, "float32", [missing, width], zeros)], 0)
  const factors = Op.reshape(whole, [(rank + missing) / part, part, width])
  const products = Op.matmul(Op.reshape(x, [B, 1, T, width]), factors, { transB: true })
  const low = Op.reshape(Op.transpose(products, [0, 2, 1, 3]), [B, T, rank + missing])
  return missing === 0 ? low : Op.split(low, -1, [rank, missing])[0]!
}

/** Terms that the runtime sums in one piece, however a product is cut. */
const piece = 128

/** The result of a first factor [B, T, r] by a second one [out, r]: [B, T, out]; `steady` in pieces of the rank. */
const raised = (parameters: Parameters, low: Value, b: Value, scale: number): Value => {
  const by = (low: Value, b: Value) => Op.matmul(low, b, { transB: true, alpha: scale })
  const rank = Number(b.shape[1])
  if (parameters.adaptation !== "steady" || rank <= piece) return by(low, b)
  const sizes = Array.from({ length: Math.ceil(rank / piece) }, (_, i) => Math.min(piece, rank - i * piece))
  const factors = Op.split(b, 1, sizes)
  const products = Op.split(low, -1, sizes).map((part, i) => by(part, factors[i]!))
  return products.reduce((sum, product) => Op.add(sum, product))
}

/** Linear maps of the same x [B, T, in], with their biases and LoRAs if they have any: [B, T, out] of each. */
export const linears = (
  parameters: Parameters,
  paths: ReadonlyArray<string>,
  biased: boolean,
  x: Value
): ReadonlyArray<Value> => {
  for (const path of paths) parameters.observe?.(path, x)
  const adapted = paths.flatMap((path) => {
    const lora = mergedLora(parameters, path) === undefined ? parameters.lora?.(path) : undefined
    return lora === undefined ? [] : [{ ...lora, path }]
  })
  const low = reductions(parameters, adapted, x)
  const updates = new Map(adapted.map(({ b, path, scale }, i) => [path, raised(parameters, low[i]!, b, scale)]))
  return products(parameters, paths, x).map((frozen, i) => {
    const update = updates.get(paths[i]!)
    const y = update === undefined ? frozen : Op.add(frozen, update)
    return biased ? Op.add(y, parameters.weight(`${paths[i]}.bias`)) : y
  })
}
