import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { spawnSync } from "node:child_process"
import { readdirSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Graph from "../../src/onnx/Graph.ts"
import * as Op from "../../src/onnx/Op.ts"
import * as Session from "../../src/onnx/Session.ts"
import { workplace } from "../workplace.ts"
import * as Plain from "./Plain.ts"

const doubling = (): Graph.Graph => {
  const graph = Graph.make("doubling")
  Graph.output(graph, "y", Op.scale(Graph.input(graph, "x", "float32", ["N"]), 2))
  return graph
}

const feeds = { x: Session.float32(Float32Array.of(1, 2, 3), [3]) }

describe("Session", () => {
  it.effect("fails to compile an operator that the runtime does not know", () =>
    Effect.gen(function* () {
      const graph = Graph.make("unknown")
      const x = Graph.input(graph, "x", "float32", [2])
      Graph.output(graph, "y", Graph.node(graph, "NoSuchOperator", [x], [x])[0]!)
      const error = yield* Effect.flip(Plain.session(graph))
      expect(error).toBeInstanceOf(Session.SessionError)
      expect(error).toMatchObject({ _tag: "SessionError", graph: "unknown", phase: "compile" })
      expect(error.message).toMatch(/^ONNX Runtime could not compile unknown: .*NoSuchOperator/s)
    })
  )

  it.effect("fails to compile a graph whose external data are missing", () =>
    Effect.gen(function* () {
      const graph = Graph.make("lost")
      const where = { location: "nowhere.safetensors", offset: 0, length: 8 }
      Graph.output(graph, "y", Graph.external(graph, "w", "float32", [2], where))
      const error = yield* Effect.flip(Session.make(graph, { folder: import.meta.dirname, threads: 1 }))
      expect(error).toMatchObject({ phase: "compile", graph: "lost" })
      expect(error.reason).toContain("nowhere.safetensors")
    })
  )

  it.effect("fails to run without a feed, with one of another shape or dtype, or for an unknown result", () =>
    Effect.gen(function* () {
      const session = yield* Plain.session(doubling())
      const reason = (given: Session.Feeds, fetches?: ReadonlyArray<string>) =>
        Effect.map(Effect.flip(session.run(given, fetches)), (error) => {
          expect(error).toBeInstanceOf(Session.SessionError)
          expect(error).toMatchObject({ phase: "run", graph: "doubling" })
          return error.reason
        })
      expect(yield* reason({})).toMatch(/'x' is missing/)
      expect(yield* reason({ x: Session.float32(new Float32Array(4), [2, 2]) })).toMatch(/rank/)
      expect(yield* reason({ x: Session.int64([1, 2], [2]) })).toMatch(/data type/)
      expect(yield* reason(feeds, ["z"])).toMatch(/output name: z/)
    })
  )

  it.effect("runs on after a failure", () =>
    Effect.gen(function* () {
      const session = yield* Plain.session(doubling())
      yield* Effect.flip(session.run({}))
      const { y } = yield* session.run(feeds)
      expect(Plain.plain(y!).data).toEqual([2, 4, 6])
    })
  )

  it.effect("is released with its scope; what it returned stays", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const session = yield* Scope.provide(Plain.session(doubling()), scope)
      const { y } = yield* session.run(feeds)
      yield* Scope.close(scope, Exit.void)
      const error = yield* Effect.flip(session.run(feeds))
      expect(error).toMatchObject({ _tag: "SessionError", phase: "run" })
      expect(Plain.plain(y!).data).toEqual([2, 4, 6])
    })
  )

  // The runtime's reports to its maker begin with an identifier in the home folder, unless it believes to be tested.
  for (const thread of ["in this thread", "in the engine's thread"]) {
    it(`leaves nothing behind in a home folder, ${thread}`, () => {
      const home = workplace()
      const script = fileURLToPath(new URL("session.ts", import.meta.url))
      const environment = { HOME: home, USERPROFILE: home, PATH: process.env["PATH"] }
      const { status, stderr } = spawnSync(process.execPath, [script, thread], { env: environment, encoding: "utf8" })
      expect(stderr).toBe("")
      expect(status).toBe(0)
      expect(readdirSync(home, { recursive: true })).toEqual([])
    })
  }

  it("makes tensors of numbers", () => {
    const numbers = Float32Array.of(1, 2)
    expect(Session.floats(Session.float32(numbers, [2]))).toBe(numbers)
    expect(Session.int64([1, -2], [2]).data).toEqual(BigInt64Array.of(1n, -2n))
    expect(Session.scalar(0.5).dims).toEqual([])
  })
})
