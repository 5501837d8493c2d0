/**
 * Gradient: reverse-mode differentiation of graphs, from the vector-Jacobian products of their operators.
 *
 * Only inputs that lead to a parameter get a gradient: a frozen weight costs nothing.
 */
import * as Graph from "./Graph.ts"
import type { Node, Value } from "./Graph.ts"
import * as Op from "./Op.ts"
import * as Vjp from "./Vjp.ts"

/** The operators that have a derivative. */
export const differentiable: ReadonlyArray<string> = Object.keys(Vjp.table)

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
        give(node.inputs[0], () => Op.concat(parts, axis, node.inputs[0]!.shape[axis]!))
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
      const vjp = Vjp.table[node.op]
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
      if (!Vjp.floating.has(x.dtype)) return x.dtype === "uint8" ? (values.get(x) ?? x) : x
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
