import { NodeServices } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, FileSystem, Layer, Stream } from "effect"
import { RpcTest } from "effect/rpc"
import { execFileSync } from "node:child_process"
import { Worker } from "node:worker_threads"
import * as Engine from "../../src/engine/Engine.ts"
import { EngineRpc } from "../../src/engine/EngineRpc.ts"
import * as EngineWorker from "../../src/engine/EngineWorker.ts"
import * as TokenLists from "../../src/engine/TokenLists.ts"
import * as Golden from "./golden.ts"
import { learn } from "./learn.ts"

const generate = {
  id: "a",
  ids: [5, 6, 7],
  adapter: null,
  seed: 1,
  n: 3,
  maxTokens: 8,
  temperature: 0.9,
  topP: 0.9,
  logitBias: new Map([
    [3, -1],
    [4, Number.NEGATIVE_INFINITY]
  ]),
  stopIds: [],
  stopTexts: []
}

const update = {
  seed: 1,
  iteration: 0,
  iterations: 1,
  epochs: 1,
  minibatchSize: 2,
  microTokens: 64,
  learningRate: 1e-4,
  valueLearningRate: 1e-3,
  warmupIterations: 0,
  floor: 0,
  klCoefficient: 0.1,
  clip: 0.2,
  valueClip: 0.2,
  valueCoefficient: 0.5,
  gamma: 1,
  lambda: 0.95,
  maxGradNorm: 1
}

const sampled = { ...generate, topP: 1, logitBias: new Map<number, number>(), maxTokens: 12 }

const fresh = (rank: number) => ({ _tag: "fresh", rank, alpha: 8, seed: 1 }) as const

/** An adapter with a value head, and what stands for its numbers: a few log-probabilities. */
const policyOf = Effect.fnUntraced(function* (name: string) {
  const client = yield* inProcess
  const make = (rank: number) =>
    client.MakeAdapter({ name, source: fresh(rank), head: "value", reference: `reference ${name}` })
  yield* make(4)
  const numbers = client.Logprobs({ ids: [5, 6, 7, 8, 9], from: 1, adapter: name })
  const rollouts = [
    { id: "a", promptIds: [5, 6], tokenIds: [7, 8], logprobs: [-5, -6], reward: 1 },
    { id: "b", promptIds: [5, 6], tokenIds: [9, 8], logprobs: [-5, -6], reward: 0 }
  ]
  const updated = (options: { readonly stateDir: string; readonly iteration?: number; readonly epochs?: number }) =>
    client.Update({
      adapter: name,
      reference: `reference ${name}`,
      rollouts,
      options: { ...update, learningRate: 0.05, iterations: 4, ...options }
    })
  return { client, make, numbers, updated }
})

const temporary = Effect.flatMap(FileSystem.FileSystem, (fs) => fs.makeTempDirectoryScoped())

const inProcess = Effect.flatMap(Layer.build(Engine.layer({ dir: Golden.folder })), (handlers) =>
  Effect.provide(RpcTest.makeClient(EngineRpc), handlers)
)

describe("the engine's contract", () => {
  it.live("has the same answers in process and from a thread", () =>
    Effect.gen(function* () {
      const near = yield* inProcess
      const far = yield* EngineWorker.client({ dir: Golden.folder })
      const logprobs = { ids: [5, 6, 7, 8], from: 1, adapter: null }
      const samples = yield* near.Generate(generate)
      expect(yield* far.Generate(generate)).toEqual(samples)
      expect(yield* far.Logprobs(logprobs)).toEqual(yield* near.Logprobs(logprobs))
      expect(samples).toHaveLength(3)
      expect(new Set(samples.map(({ tokenIds }) => tokenIds.join())).size).toBe(3)
      for (const { logprobs, samplingLogprobs, tokenIds } of samples) {
        expect(tokenIds).not.toContain(4)
        expect(logprobs).toHaveLength(tokenIds.length)
        expect(samplingLogprobs).toHaveLength(tokenIds.length)
      }
      // The first of several is the one that is drawn alone.
      expect(yield* far.Generate({ ...generate, n: 1 })).toEqual(samples.slice(0, 1))
      // Another is drawn by no other request, whatever its name.
      expect(yield* near.Generate({ ...generate, id: "a#1", n: 1 })).not.toEqual(samples.slice(1, 2))
    })
  )

  it.live("that cannot start says why to whoever asks it", () =>
    Effect.gen(function* () {
      const client = yield* EngineWorker.client({ dir: "nowhere" })
      const error = yield* Effect.flip(client.Generate(generate))
      expect(error._tag).toBe("RpcClientError")
      expect(error.message).toMatch(/^nowhere does not exist/)
    })
  )

  it("starts from a program that Node was given as a text", () => {
    const program = `
      import { Effect } from "effect"
      import * as EngineWorker from ${JSON.stringify(new URL("../../src/engine/EngineWorker.ts", import.meta.url))}
      const client = EngineWorker.client({ dir: ${JSON.stringify(Golden.folder)} })
      const asked = Effect.flatMap(client, (engine) => engine.Logprobs({ ids: [5, 6], from: 1, adapter: null }))
      console.log((await Effect.runPromise(Effect.scoped(asked))).length)`
    const said = execFileSync(process.execPath, ["--input-type=module", "--eval", program], { encoding: "utf8" })
    expect(said).toBe("1\n")
  })

  it.live("starts no engine from an engine's thread, in which a program begins that is bundled with it", () =>
    Effect.gen(function* () {
      const thread = new Worker(new URL("bundled.ts", import.meta.url), {
        workerData: { charterEngine: { dir: Golden.folder } }
      })
      const ended = yield* Effect.promise(
        () =>
          new Promise<Error | undefined>((resolve) => {
            thread.once("error", (error: Error) => resolve(error))
            thread.once("exit", () => resolve(undefined))
          })
      )
      expect(ended?.message).toContain("leave charter-ai out of the bundle")
    })
  )

  it.live("has the same sentences for what cannot be done", () =>
    Effect.gen(function* () {
      const clients = [yield* inProcess, yield* EngineWorker.client({ dir: Golden.folder })]
      const wrong = [
        ["vocabulary", { ...generate, ids: [320] }],
        ["positions", { ...generate, ids: Array<number>(256).fill(3) }],
        ["no tokens", { ...generate, ids: [] }],
        ["0 continuations cannot be drawn", { ...generate, n: 0 }],
        ["ask for 1 to 10000", { ...generate, n: 2 ** 33 }],
        ["without a tokenizer", { ...generate, stopTexts: ["x"] }],
        ["top_p", { ...generate, topP: 3 }],
        ["logit_bias of the token 4 is Infinity", { ...generate, logitBias: new Map([[4, Infinity]]) }],
        [
          "leaves no token",
          { ...generate, logitBias: new Map(Array.from({ length: 320 }, (_, id) => [id, -Infinity])) }
        ]
      ] as const
      for (const client of clients) {
        for (const [word, request] of wrong) {
          const error = yield* Effect.flip(client.Generate(request))
          expect(error).toMatchObject({ _tag: "EngineError", retryable: false })
          expect(error.message).toContain(word)
        }
        // No fault of the request: an engine that was started again has none of the adapters.
        const error = yield* Effect.flip(client.Generate({ ...generate, adapter: "x" }))
        expect(error).toMatchObject({ _tag: "EngineError", retryable: true })
        expect(error.message).toContain("There is no adapter x")
      }
    })
  )

  it.live(
    "refuses what an adapter has no head for, probabilities that are none, and places that are not in a sequence",
    () =>
      Effect.gen(function* () {
        const client = yield* inProcess
        const dir = yield* Effect.flatMap(FileSystem.FileSystem, (fs) => fs.makeTempDirectoryScoped())
        const source = { _tag: "fresh", rank: 2, alpha: 4, seed: 1 } as const
        yield* client.MakeAdapter({ name: "plain", source, head: "none", reference: null })
        yield* client.MakeAdapter({ name: "judge", source, head: "score", reference: null })
        const learning = { ...learn, stateDir: dir }
        const [first, second] = [TokenLists.of([[5, 6]]), TokenLists.of([[5, 7]])]
        const pairs = { names: ["a"], first, second, probabilities: [0.7] }
        const rollouts = [{ id: "a", promptIds: [5], tokenIds: [6], logprobs: [-1], reward: 1 }]
        const sequence = { ids: [5, 6, 7], adapter: null }
        const refused: ReadonlyArray<readonly [Effect.Effect<unknown, unknown>, string]> = [
          [client.Score({ ids: [5], adapter: "plain" }), "The adapter plain has no score head"],
          [
            Stream.runDrain(client.LearnPreferences({ adapter: "plain", ...pairs, options: learning })),
            "The adapter plain has no score head"
          ],
          [
            Stream.runDrain(
              client.LearnPreferences({ adapter: "judge", ...pairs, probabilities: [7], options: learning })
            ),
            "The pair a has a probability of 7, which is none"
          ],
          [
            client.Update({ adapter: "plain", reference: "plain", rollouts, options: { ...update, stateDir: dir } }),
            "The adapter plain has no value head"
          ],
          [client.Logprobs({ ...sequence, from: -1 }), "There is no place -1 in 3 tokens"],
          [client.Logprobs({ ...sequence, from: 4 }), "There is no place 4 in 3 tokens"]
        ]
        for (const [request, message] of refused) {
          expect(yield* Effect.flip(request)).toMatchObject({
            refused: true,
            message: expect.stringContaining(message)
          })
        }
        expect(yield* client.Logprobs({ ...sequence, from: 3 })).toEqual([])
      }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("refuses an option that is not in the vocabulary, and answers the other requests of its batch", () =>
    Effect.gen(function* () {
      const client = yield* inProcess
      const choose = (options: Array<Array<number>>, ids = [5, 6]) =>
        Effect.result(client.Choose({ ids, options, adapter: null }))
      const alone = yield* choose([[7], [8]])
      const [strange, longer, fine] = yield* Effect.all(
        [choose([[7], [320]]), choose([[7], [8, 320]]), choose([[7], [8]])],
        {
          concurrency: "unbounded"
        }
      )
      for (const refused of [strange, longer]) {
        expect(refused).toMatchObject({ failure: { refused: true, retryable: false } })
        expect(refused).toMatchObject({ failure: { message: expect.stringContaining("The token 320 is not in") } })
      }
      expect(fine).toEqual(alone)
      // The last token of an option is predicted only: it needs no position of its own.
      const most = Array<number>(255).fill(5)
      expect((yield* choose([[7, 8], [8]], most))._tag).toBe("Success")
      expect((yield* choose([[7, 8, 9], [8]], most))._tag).toBe("Failure")
    })
  )

  // Otherwise a defect, which nobody foresees, would end what everybody else waits for.
  it.live("tells a defect to the one who asked, and carries out what others ask", () =>
    Effect.gen(function* () {
      const options = { dir: Golden.folder, maxRows: Number.NaN }
      const handlers = yield* Layer.build(Engine.layer(options))
      const near = yield* Effect.provide(RpcTest.makeClient(EngineRpc), handlers)
      for (const client of [near, yield* EngineWorker.client(options)]) {
        const logprobs = client.Logprobs({ ids: [5, 6, 7, 8], from: 1, adapter: null })
        const [error, ...numbers] = yield* Effect.all(
          [Effect.flip(client.Generate(generate)), logprobs, logprobs, logprobs],
          { concurrency: "unbounded" }
        )
        expect(error).toMatchObject({ _tag: "EngineError", retryable: false })
        expect(error.message).toContain("The engine cannot carry this out: RangeError")
        expect(numbers.map((list) => list.length)).toEqual([3, 3, 3])
      }
    })
  )

  it.live("has room for any number of rows", () =>
    Effect.gen(function* () {
      const handlers = yield* Layer.build(Engine.layer({ dir: Golden.folder, maxRows: Infinity }))
      const client = yield* Effect.provide(RpcTest.makeClient(EngineRpc), handlers)
      expect(yield* client.Generate(generate)).toHaveLength(3)
    })
  )

  it.live("tells no log-probability of a token that has nothing before it", () =>
    Effect.gen(function* () {
      const client = yield* inProcess
      const first = yield* Effect.flip(client.Logprobs({ ids: [5, 6], from: 0, adapter: null }))
      expect(first.message).toContain("nothing before it")
      const options = [[5, 6], [7]]
      const chosen = yield* Effect.flip(client.Choose({ ids: [], options, adapter: null }))
      expect(chosen.message).toContain("nothing before it")
      const empty = yield* Effect.flip(client.Choose({ ids: [5], options: [[6], []], adapter: null }))
      expect(empty.message).toContain("no tokens")
    })
  )
})

describe("an adapter that is changed", () => {
  it.live("is as it was before an update that fails or is interrupted, which can be asked for again", () =>
    Effect.gen(function* () {
      const dir = yield* temporary
      const once = yield* policyOf("once")
      yield* once.updated({ stateDir: `${dir}/once` })
      yield* once.updated({ stateDir: `${dir}/once`, iteration: 1 })
      // What it was updated to is a state of updates, which no other training goes on with.
      const rows = { names: ["a"], rows: TokenLists.of([[5, 6]]), from: [1] }
      const options = { ...learn, stateDir: `${dir}/once` }
      const other = once.client.LearnSupervised({ adapter: "once", ...rows, options })
      expect(yield* Effect.flip(Stream.runDrain(other))).toMatchObject({
        message: expect.stringContaining("holds the state of another training")
      })
      const twice = yield* policyOf("twice")
      yield* twice.updated({ stateDir: `${dir}/twice` })
      const begun = yield* twice.numbers
      const error = yield* Effect.flip(twice.updated({ stateDir: "/dev/null/x" }))
      expect(error).toMatchObject({ _tag: "EngineError", message: expect.stringContaining("cannot be made") })
      expect(yield* twice.numbers).toEqual(begun)
      const cut = twice.updated({ stateDir: `${dir}/cut`, epochs: 100_000 })
      expect((yield* Effect.timeoutOption(cut, "1 second"))._tag).toBe("None")
      expect(yield* twice.numbers).toEqual(begun)
      yield* twice.updated({ stateDir: `${dir}/twice`, iteration: 1 })
      expect(yield* twice.numbers).toEqual(yield* once.numbers)
      expect(yield* twice.numbers).not.toEqual(begun)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("ends an answer with the numbers that it began with, whatever is learnt meanwhile", () =>
    Effect.gen(function* () {
      const dir = yield* temporary
      const client = yield* inProcess
      yield* client.MakeAdapter({ name: "p", source: fresh(4), head: "score", reference: null })
      const rows = TokenLists.of([
        [5, 6, 7],
        [5, 9, 8]
      ])
      const options = (stateDir: string) => ({ ...learn, epochs: 4, learningRate: 1, stateDir: `${dir}/${stateDir}` })
      const names = ["a", "b"]
      const answer = client.Generate({ ...sampled, adapter: "p", maxTokens: 40, n: 1 })
      for (const training of [
        client.LearnSupervised({ adapter: "p", names, rows, from: [1, 1], options: options("supervised") }),
        client.LearnPreferences({
          ...{ adapter: "p", names, first: rows, second: TokenLists.of([[5], [5, 6]]), probabilities: [1, 0] },
          options: options("preferences")
        })
      ]) {
        const expected = yield* answer
        const [meanwhile] = yield* Effect.all([answer, Stream.runDrain(training)], { concurrency: "unbounded" })
        expect(meanwhile).toEqual(expected)
        expect(yield* answer).not.toEqual(expected)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("learns at the temperature that its answers were sampled at", () =>
    Effect.gen(function* () {
      const dir = yield* temporary
      const { client } = yield* policyOf("p")
      const samples = yield* client.Generate({ ...sampled, adapter: "p", n: 8, temperature: 0.4 })
      const rollouts = samples.map(({ logprobs, tokenIds }, i) => ({
        ...{ id: `${i}`, promptIds: sampled.ids, tokenIds, logprobs, reward: i % 2 }
      }))
      // At the rate 0 the policy stays what was sampled, if it is looked at in the same way.
      const moved = Effect.fnUntraced(function* (options: { readonly temperature?: number }) {
        const still = { ...update, ...options, minibatchSize: 8, learningRate: 0, valueLearningRate: 0, stateDir: dir }
        const { approx_kl } = yield* client.Update({ adapter: "p", reference: "reference p", rollouts, options: still })
        return Math.abs(approx_kl!)
      })
      expect(yield* moved({ temperature: 0.4 })).toBeLessThan(1e-6)
      // The learner of another temperature is another one.
      expect(yield* moved({})).toBeLessThan(1e-6)
      expect(yield* moved({ temperature: 0.4 })).toBeLessThan(1e-6)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("is saved as it was before an update that is under way", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* temporary
      const { client, numbers, updated } = yield* policyOf("p")
      const saved = Effect.fnUntraced(function* (name: string) {
        yield* client.SaveAdapter({ name: "p", dir: `${dir}/${name}` })
        return yield* fs.readFile(`${dir}/${name}/adapter_model.safetensors`)
      })
      const [begun, file] = [yield* numbers, yield* saved("before")]
      const running = yield* Effect.forkChild(updated({ stateDir: `${dir}/state`, epochs: 100_000 }))
      yield* Effect.sleep("300 millis")
      expect(yield* saved("meanwhile")).toEqual(file)
      expect(yield* numbers).toEqual(begun)
      yield* Fiber.interrupt(running)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("is saved whole where several save it at once, and where who saves it is interrupted", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dir = yield* temporary
      const { client } = yield* policyOf("p")
      const save = (name: string) => client.SaveAdapter({ name: "p", dir: `${dir}/${name}` })
      const files = (name: string) => Effect.map(fs.readDirectory(`${dir}/${name}`), (names) => names.toSorted())
      const whole = ["adapter_config.json", "adapter_model.safetensors"]
      yield* Effect.all([save("together"), save("together"), save("together")], { concurrency: "unbounded" })
      expect(yield* files("together")).toEqual(whole)
      const interrupted = yield* Effect.forkChild(save("interrupted"))
      while (!(yield* fs.exists(`${dir}/interrupted`))) yield* Effect.yieldNow
      yield* Fiber.interrupt(interrupted)
      // Whoever comes next has waited for its end.
      yield* save("after")
      expect(yield* files("interrupted")).toEqual(whole)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("is not touched by updates of the one that it replaces", () =>
    Effect.gen(function* () {
      const dir = yield* temporary
      const { make, numbers, updated } = yield* policyOf("p")
      const begun = yield* numbers
      // One under way and one that waits for it; the last rank is another one.
      for (const rank of [4, 4, 3]) {
        const running = yield* Effect.forkChild(
          Effect.all([updated({ stateDir: dir, epochs: 20 }), updated({ stateDir: dir })], {
            concurrency: "unbounded",
            discard: true
          })
        )
        yield* Effect.sleep("20 millis")
        yield* make(rank)
        yield* Fiber.join(running)
        expect(yield* numbers).toEqual(begun)
      }
      yield* updated({ stateDir: dir })
      expect(yield* numbers).not.toEqual(begun)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("learns one thing after the other where both are asked for at once", () =>
    Effect.gen(function* () {
      const dir = yield* temporary
      const learnt = Effect.fnUntraced(function* (name: string, concurrency: number) {
        const { client, numbers } = yield* policyOf(name)
        const lesson = (which: string, ids: ReadonlyArray<number>) =>
          Stream.runDrain(
            client.LearnSupervised({
              adapter: name,
              ...{ names: [which], rows: TokenLists.of([ids]), from: [1] },
              options: { ...learn, epochs: 4, stateDir: `${dir}/${name} ${which}` }
            })
          )
        yield* Effect.all([lesson("one", [5, 6, 7]), lesson("other", [5, 9, 11])], { concurrency, discard: true })
        return yield* numbers
      })
      expect(yield* learnt("together", 2)).toEqual(yield* learnt("in turn", 1))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("learns from one set of pairs after the other where both are asked for at once", () =>
    Effect.gen(function* () {
      const dir = yield* temporary
      const client = yield* inProcess
      const learnt = Effect.fnUntraced(function* (name: string, concurrency: number) {
        yield* client.MakeAdapter({ name, source: fresh(4), head: "score", reference: null })
        const lesson = (better: number) =>
          Stream.runDrain(
            client.LearnPreferences({
              ...{ adapter: name, names: ["a"], probabilities: [1] },
              ...{ first: TokenLists.of([[5, better]]), second: TokenLists.of([[5, 9]]) },
              options: { ...learn, epochs: 4, stateDir: `${dir}/${name} ${better}` }
            })
          )
        yield* Effect.all([lesson(6), lesson(7)], { concurrency, discard: true })
        return yield* client.Score({ ids: [5, 6], adapter: name })
      })
      expect(yield* learnt("together", 2)).toBe(yield* learnt("in turn", 1))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("learns nothing from a row without a token to learn, and cannot have any rank", () =>
    Effect.gen(function* () {
      const dir = yield* temporary
      const { client, make } = yield* policyOf("p")
      for (const [ids, from] of [
        [[5, 6], 9],
        [[5], 0]
      ] as const) {
        const rows = { names: ["row 7"], rows: TokenLists.of([ids]), from: [from] }
        const options = { ...learn, stateDir: dir }
        const error = yield* Effect.flip(Stream.runDrain(client.LearnSupervised({ adapter: "p", ...rows, options })))
        expect(error).toMatchObject({ refused: true, message: "The row row 7 has no token to learn." })
      }
      const uneven = { names: ["a", "b"], rows: TokenLists.of([[5, 6]]), from: [0, 0] }
      for (const [rows, problem] of [
        [uneven, "1 lists of tokens for 2 rows"],
        [{ ...uneven, from: [0] }, "1 numbers for 2 rows"]
      ] as const) {
        const learnt = client.LearnSupervised({ adapter: "p", ...rows, options: { ...learn, stateDir: dir } })
        expect((yield* Effect.flip(Stream.runDrain(learnt))).message).toBe(`The request has ${problem}.`)
      }
      const error = yield* Effect.flip(make(1e9))
      expect(error.message).toContain("has the rank 1000000000, and no linear map is larger than 160")
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
