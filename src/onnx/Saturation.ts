/**
 * Saturation: whether this processor's products of unsigned by signed bytes are wrong.
 *
 * Without VNNI or AMX the runtime adds pairs of such products in 16 bits, where they saturate. Its option
 * `x64quantprecision` has it multiply unsigned bytes instead, which is exact, but it also does so on processors that do
 * not need it, at a cost. So one small product is computed to see.
 */
import { InferenceSession } from "onnxruntime-node"
import * as Graph from "./Graph.ts"
import * as Proto from "./Proto.ts"
import * as Quantize from "./Quantize.ts"

const [rows, inner, columns] = [2, 64, 32]

const probe = async (): Promise<boolean> => {
  const graph = Graph.make("a product of bytes")
  const weights: Graph.Value = { graph, name: "weights", dtype: "int8", shape: [inner, columns] }
  const bytes = new Uint8Array(inner * columns).fill(127)
  graph.initializers.push({ value: weights, data: { _tag: "inline", bytes } })
  const ones = Graph.constant(graph, "float32", [rows, inner], new Float32Array(rows * inner).fill(1))
  const scales = Graph.constant(graph, "float32", [columns], new Float32Array(columns).fill(1))
  Graph.output(graph, "product", Quantize.matmul(ones, weights, scales))
  const session = await InferenceSession.create(Proto.encode(graph), { logSeverityLevel: 3 })
  const { product } = await session.run({})
  await session.release()
  return (product!.data as Float32Array).some((x) => Math.abs(x - 127 * inner) > 1)
}

let found: Promise<boolean> | undefined

/** Whether products of bytes have to be asked for in unsigned ones to be right; looked at once. */
export const saturates = (): Promise<boolean> => (found ??= probe())
