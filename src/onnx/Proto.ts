/** Proto: a graph as the bytes of an ONNX model (opset 21, IR 10), through the published protobuf schema. */
import { create, toBinary } from "@bufbuild/protobuf"
import {
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProto_DataType,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema
} from "onnx-buf"
import type { GraphProto } from "onnx-buf"
import type { Attribute, Body, DType, Graph, Initializer, Node, Value } from "./Graph.ts"

const dataTypes: Record<DType, number> = {
  float32: TensorProto_DataType.FLOAT,
  float16: TensorProto_DataType.FLOAT16,
  bfloat16: TensorProto_DataType.BFLOAT16,
  int64: TensorProto_DataType.INT64,
  int32: TensorProto_DataType.INT32,
  int8: TensorProto_DataType.INT8,
  uint8: TensorProto_DataType.UINT8,
  bool: TensorProto_DataType.BOOL
}

/** The number by which ONNX knows a dtype (the `to` of Cast). */
export const dataType = (dtype: DType): number => dataTypes[dtype]

/** The name that a value has in the file. */
type NameOf = (value: Value) => string

const attribute = (name: string, value: Attribute, nameOf: NameOf) => {
  const Type = AttributeProto_AttributeType
  if (typeof value === "number") return create(AttributeProtoSchema, { name, type: Type.FLOAT, f: value })
  if (typeof value === "string") {
    return create(AttributeProtoSchema, { name, type: Type.STRING, s: new TextEncoder().encode(value) })
  }
  if ("int" in value) return create(AttributeProtoSchema, { name, type: Type.INT, i: BigInt(value.int) })
  if ("nodes" in value) return create(AttributeProtoSchema, { name, type: Type.GRAPH, g: body(value, nameOf) })
  if ("ints" in value) return create(AttributeProtoSchema, { name, type: Type.INTS, ints: value.ints.map(BigInt) })
  return create(AttributeProtoSchema, { name, type: Type.FLOATS, floats: [...value] })
}

const valueInfo = (name: string, value: Value) =>
  create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, {
      value: {
        case: "tensorType",
        value: create(TypeProto_TensorSchema, {
          elemType: dataTypes[value.dtype],
          shape: create(TensorShapeProtoSchema, {
            dim: value.shape.map((dim) =>
              create(TensorShapeProto_DimensionSchema, {
                value:
                  typeof dim === "number" ? { case: "dimValue", value: BigInt(dim) } : { case: "dimParam", value: dim }
              })
            )
          })
        })
      }
    })
  })

const tensor = ({ data, value }: Initializer) => {
  const base = { name: value.name, dataType: dataTypes[value.dtype], dims: value.shape.map((d) => BigInt(d)) }
  if (data._tag === "inline") return create(TensorProtoSchema, { ...base, rawData: new Uint8Array(data.bytes) })
  return create(TensorProtoSchema, {
    ...base,
    dataLocation: TensorProto_DataLocation.EXTERNAL,
    externalData: [
      ["location", data.location],
      ["offset", String(data.offset)],
      ["length", String(data.length)]
    ].map(([key, entry]) => create(StringStringEntryProtoSchema, { key: key!, value: entry! }))
  })
}

const nodeProto = (n: Node, nameOf: NameOf) =>
  create(NodeProtoSchema, {
    name: nameOf(n.outputs[0]!),
    opType: n.op,
    domain: n.domain,
    input: n.inputs.map((v) => (v === null ? "" : nameOf(v))),
    output: n.outputs.map(nameOf),
    attribute: Object.entries(n.attributes).map(([name, value]) => attribute(name, value, nameOf))
  })

/** A value under one more name. */
const renamed = (name: string, value: Value, nameOf: NameOf) =>
  create(NodeProtoSchema, { name, opType: "Identity", input: [nameOf(value)], output: [name] })

/** The repeated part of a loop: whether it goes on is as it was. */
const body = ({ inputs, nodes, outputs }: Body, nameOf: NameOf): GraphProto => {
  const of = inputs[0]!.name
  const results = [inputs[1]!, ...outputs].map((value, i) => ({ name: `${of}/result_${i}`, value }))
  return create(GraphProtoSchema, {
    name: of,
    node: [...nodes.map((n) => nodeProto(n, nameOf)), ...results.map((r) => renamed(r.name, r.value, nameOf))],
    input: inputs.map((v) => valueInfo(v.name, v)),
    output: results.map(({ name, value }) => valueInfo(name, value)),
    valueInfo: nodes.flatMap(({ outputs }) => outputs.map((v) => valueInfo(nameOf(v), v)))
  })
}

/** The bytes of the ONNX model. Weights are external, so this stays small whatever the size of the network. */
export const encode = (graph: Graph): Uint8Array => {
  // Nodes that need weights alone come first in the file: the runtime orders what it runs from the end of the graph, the
  // later node of two first, and would otherwise widen all halves before it multiplies with the first of them.
  const stored = new Set<Value | null>([null, ...graph.initializers.map(({ value }) => value)])
  const constant = Map.groupBy(graph.nodes, (n) => n.inputs.every((v) => stored.has(v)))
  // A result has its name from the node that makes it. An input or a value with two names goes through Identity, which
  // copies what others read, too.
  const made = new Set(graph.nodes.flatMap(({ outputs }) => outputs))
  const names = new Map<Value, string>()
  const others = graph.outputs.filter(({ name, value }) => {
    if (!made.has(value) || names.has(value)) return true
    names.set(value, name)
    return false
  })
  const nameOf: NameOf = (value) => names.get(value) ?? value.name
  const nodes = [
    ...[...(constant.get(true) ?? []), ...(constant.get(false) ?? [])].map((n) => nodeProto(n, nameOf)),
    ...others.map(({ name, value }) => renamed(name, value, nameOf))
  ]
  const model = create(ModelProtoSchema, {
    irVersion: 10n,
    producerName: "charter",
    opsetImport: [
      create(OperatorSetIdProtoSchema, { domain: "", version: 21n }),
      create(OperatorSetIdProtoSchema, { domain: "com.microsoft", version: 1n })
    ],
    graph: create(GraphProtoSchema, {
      name: graph.name,
      node: nodes,
      initializer: graph.initializers.map(tensor),
      input: graph.inputs.map((v) => valueInfo(v.name, v)),
      output: graph.outputs.map(({ name, value }) => valueInfo(name, value)),
      // Shapes in the graph's own symbols: the runtime invents one for each size that it cannot follow, finds no buffers
      // of equal size, and looks through all of them for every node. A graph of 8,000 nodes took 25 s to compile, not 7.
      valueInfo: graph.nodes.flatMap(({ outputs }) =>
        outputs.flatMap((v) => (names.has(v) ? [] : [valueInfo(v.name, v)]))
      )
    })
  })
  return toBinary(ModelProtoSchema, model)
}
