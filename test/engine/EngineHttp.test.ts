/** The engine's contract over HTTP, in lines of JSON: what another machine is asked over. */
import { createServer } from "node:http"
import { NodeHttpServer, NodeServices } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FileSystem, Layer, Stream } from "effect"
import { FetchHttpClient, HttpRouter, HttpServer } from "effect/http"
import { RpcClient, RpcSerialization, RpcServer, RpcTest } from "effect/rpc"
import * as Engine from "../../src/engine/Engine.ts"
import { EngineRpc } from "../../src/engine/EngineRpc.ts"
import * as TokenLists from "../../src/engine/TokenLists.ts"
import * as Golden from "./golden.ts"
import { learn } from "./learn.ts"

/** A client over HTTP and one in process of the same handlers. */
const clients = Effect.gen(function* () {
  const handlers = yield* Layer.build(Engine.layer({ dir: Golden.folder }))
  const served = HttpRouter.serve(RpcServer.layerHttp({ group: EngineRpc, path: "/rpc", protocol: "http" }), {
    disableLogger: true,
    disableListenLog: true
  }).pipe(
    Layer.provide(Layer.succeedContext(handlers)),
    Layer.provide(RpcSerialization.layerNdjson),
    Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
  )
  const { address } = yield* Effect.provide(HttpServer.HttpServer, yield* Layer.build(served))
  const url = `http://127.0.0.1:${"port" in address ? address.port : 0}/rpc`
  const protocol = RpcClient.layerProtocolHttp({ url }).pipe(
    Layer.provide([FetchHttpClient.layer, RpcSerialization.layerNdjson])
  )
  const far = yield* RpcClient.make(EngineRpc).pipe(Effect.provide(yield* Layer.build(protocol)))
  return { far, near: yield* Effect.provide(RpcTest.makeClient(EngineRpc), handlers) }
})

const rows = { names: ["a"], rows: TokenLists.of([[5, 6, 7, 8]]), from: [2] }
const pairs = { names: ["a"], first: TokenLists.of([[5, 6]]), second: TokenLists.of([[5, 7, 8]]), probabilities: [0.7] }

describe("over HTTP", () => {
  it.live("an engine learns what it learns in process", () =>
    Effect.gen(function* () {
      const { far, near } = yield* clients
      const dir = yield* Effect.flatMap(FileSystem.FileSystem, (fs) => fs.makeTempDirectoryScoped())
      const losses: Array<ReadonlyArray<number | undefined>> = []
      for (const [where, client] of Object.entries({ far, near })) {
        const source = { _tag: "fresh", rank: 2, alpha: 4, seed: 1 } as const
        yield* client.MakeAdapter({ name: where, source, head: "score", reference: null })
        const twice = { ...learn, epochs: 2, batchSize: 1 }
        const how = (what: string) => ({ adapter: where, options: { ...twice, stateDir: `${dir}/${where}-${what}` } })
        const supervised = yield* Stream.runCollect(client.LearnSupervised({ ...how("rows"), ...rows }))
        const preferred = yield* Stream.runCollect(client.LearnPreferences({ ...how("pairs"), ...pairs }))
        losses.push([...supervised, ...preferred].map(({ loss }) => loss))
      }
      expect(losses[0]).toHaveLength(4)
      expect(losses[0]).toEqual(losses[1])
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
