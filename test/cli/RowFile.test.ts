/** Files of rows, of answers and of rejects, without a model: what a user gave is never lost. */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Console, Effect, Exit, Fiber, Option, Result, Sink, Stdio, Stream } from "effect"
import { type PlatformError, systemError } from "effect/PlatformError"
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import { join } from "node:path"
import * as CliExit from "../../src/cli/Exit.ts"
import * as RowFile from "../../src/cli/RowFile.ts"
import * as RowPlaces from "../../src/cli/RowPlaces.ts"
import * as ModelRows from "../../src/data/ModelRows.ts"
import * as Progress from "../../src/recipes/Progress.ts"
import * as Workplace from "../workplace.ts"

const good = '{"input_ids":[1]}\n'
const bad = "no JSON\n"
const rejected = '{"line":1,"reason":"of an earlier command"}\n'

/** A folder with these files in it. */
const workplace = (files: Readonly<Record<string, string>>): string => {
  const dir = Workplace.workplace()
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(join(dir, name), text)
  return dir
}

/** Everything in a folder. */
const contents = (dir: string): Readonly<Record<string, string>> =>
  Object.fromEntries(fs.readdirSync(dir).map((name) => [name, fs.readFileSync(join(dir, name), "utf8")]))

const placesIn = (dir: string, from: string, out?: string): RowPlaces.Places => ({
  in: join(dir, from),
  out: out === undefined ? Option.none() : Option.some(join(dir, out))
})

/** Answers each row with its id, as the commands do with what a model makes of it. */
const command = Effect.fnUntraced(function* (places: RowPlaces.Places, before: Effect.Effect<void> = Effect.void) {
  yield* RowPlaces.check(places)
  yield* before
  const rows = RowFile.read(places.in, ModelRows.decode(["ids"]))
  const outcome = yield* RowFile.answer("test", places, rows, ({ id }) => Effect.succeed(Result.succeed({ id })), 4)
  yield* RowFile.conclude(places, outcome, "done")
})

/** Runs it to its end; what is said is what the program would say. */
const run = async (places: RowPlaces.Places, before?: Effect.Effect<void>) => {
  let [stdout, stderr] = ["", ""]
  const console = {
    ...globalThis.console,
    log: (...words: ReadonlyArray<unknown>) => void (stdout += `${words.join(" ")}\n`),
    error: (...words: ReadonlyArray<unknown>) => void (stderr += `${words.join(" ")}\n`)
  }
  const exit = await command(places, before).pipe(
    Effect.provide(NodeServices.layer),
    Effect.provideService(Console.Console, console as Console.Console),
    Effect.provideService(Progress.Progress, Progress.silent),
    Effect.exit,
    Effect.runPromise
  )
  if (Exit.isFailure(exit) && Cause.hasDies(exit.cause)) throw Cause.squash(exit.cause)
  return { code: CliExit.code(exit), stdout, stderr: stderr + (CliExit.words(exit, "again") ?? "") }
}

describe("the places of a command over rows", () => {
  const refusals: ReadonlyArray<
    readonly [
      what: string,
      files: Readonly<Record<string, string>>,
      from: string,
      out: string | undefined,
      said: string
    ]
  > = [
    ["--out under the rejects' name", { "s.jsonl": good }, "s.jsonl", "s.rejected.jsonl", "rejected rows of"],
    [
      "the same once the file is there",
      { "s.jsonl": good, "s.rejected.jsonl": rejected },
      "s.jsonl",
      "s.rejected.jsonl",
      "rejected rows of"
    ],
    ["--out that is --in", { "s.jsonl": good }, "s.jsonl", "./s.jsonl", "--out is the file of --in"],
    [
      "somebody's own file under the rejects' name",
      { "s.jsonl": good, "s.rejected.jsonl": '{"line":1,"reason":"r","note":"mine"}\n' },
      "s.jsonl",
      undefined,
      "is no file of rejected rows"
    ],
    [
      "the same beside --out",
      { "s.jsonl": good, "s.rejected.jsonl": "notes\n" },
      "s.jsonl",
      "o.jsonl",
      "is no file of rejected rows"
    ],
    ["no rows", { "s.jsonl": "\n \n", "o.jsonl": "answers\n" }, "s.jsonl", "o.jsonl", "has no rows"],
    ["--out without a folder", { "s.jsonl": good }, "s.jsonl", "none/o.jsonl", "There is no folder"],
    ["--out that the system does not take", { "s.jsonl": good }, "s.jsonl", `${"o".repeat(245)}.jsonl`, "name too long"]
  ]
  it.each(refusals)("are refused before anything is computed: %s", async (_, files, from, out, said) => {
    const dir = workplace(files)
    const { code, stderr } = await run(placesIn(dir, from, out))
    assert.strictEqual(code, 2, stderr)
    assert.include(stderr, said)
    assert.deepStrictEqual(contents(dir), files)
  })

  it("are refused where a link leads from one to the other, or where a folder stands in the way", async () => {
    const dir = workplace({ "s.jsonl": good, "t.jsonl": good })
    fs.symlinkSync("s.jsonl", join(dir, "link.jsonl"))
    fs.symlinkSync(".", join(dir, "here"))
    fs.linkSync(join(dir, "s.jsonl"), join(dir, "hard.jsonl"))
    fs.symlinkSync("s.rejected.jsonl", join(dir, "rejects"))
    fs.mkdirSync(join(dir, "t.rejected.jsonl"))
    const cases = [
      ["link.jsonl", "s.jsonl", "--out is the file of --in"],
      ["s.jsonl", "here/s.jsonl", "--out is the file of --in"],
      ["s.jsonl", "hard.jsonl", "--out is the file of --in"],
      ["s.jsonl", "rejects", "rejected rows of"],
      ["t.jsonl", undefined, "is no file of rejected rows"]
    ] as const
    const before = fs.readdirSync(dir)
    for (const [from, out, said] of cases) {
      const { code, stderr } = await run(placesIn(dir, from, out))
      assert.strictEqual(code, 2, `${from} ${out}`)
      assert.include(stderr, said)
    }
    assert.deepStrictEqual(fs.readdirSync(dir), before)
    assert.strictEqual(fs.readFileSync(join(dir, "s.jsonl"), "utf8"), good)
  })

  it("have names, and are no standard input", async () => {
    const said = async (places: RowPlaces.Places) => (await run(places)).stderr
    assert.include(await said({ in: "", out: Option.none() }), "--in is an empty name")
    assert.include(await said({ in: "s.jsonl", out: Option.some("") }), "--out is an empty name")
    assert.include(await said({ in: "-", out: Option.none() }), "Standard input is not taken; give a file.")
  })
})

describe("rows that cannot be used", () => {
  it("go to a file beside the answers, which replaces one of an earlier command", async () => {
    const dir = workplace({ "s.jsonl": bad + good, "s.rejected.jsonl": rejected })
    const { code, stderr } = await run(placesIn(dir, "s.jsonl", "o.jsonl"))
    assert.strictEqual(code, 3)
    assert.include(stderr, "1 row was rejected of 2;")
    const { "o.jsonl": out, "s.rejected.jsonl": rejects, ...others } = contents(dir)
    assert.strictEqual(out, '{"id":2}\n')
    assert.match(rejects!, /^\{"line":1,"reason":"not valid JSON: .*"\}\n$/)
    assert.deepStrictEqual(Object.keys(others), ["s.jsonl"])
  })

  it("are those whose number JSON cannot keep, too: their answers would be of another row", async () => {
    const ids = ["9007199254740993", "-1e400", "9007199254740991", "0.5", '"9007199254740993"']
    const dir = workplace({ "s.jsonl": ids.map((id) => `{"id":${id},"input_ids":[1]}\n`).join("") })
    assert.strictEqual((await run(placesIn(dir, "s.jsonl", "o.jsonl"))).code, 3)
    const { "o.jsonl": out, "s.rejected.jsonl": rejects } = contents(dir)
    assert.strictEqual(
      out,
      ids
        .slice(2)
        .map((id) => `{"id":${id}}\n`)
        .join("")
    )
    assert.include(rejects, "`id` is beyond the numbers that are kept exactly (9007199254740992); give it as text")
    assert.include(rejects, "(-Infinity)")
  })

  it("are told when there are none: the file of an earlier command goes", async () => {
    const dir = workplace({ "s.jsonl": good, "s.rejected.jsonl": rejected })
    const { code, stderr } = await run(placesIn(dir, "s.jsonl", "o.jsonl"))
    assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
    assert.deepStrictEqual(contents(dir), { "o.jsonl": '{"id":1}\n', "s.jsonl": good })
  })

  it("leave answers of before alone when there are no others", async () => {
    const dir = workplace({ "s.jsonl": bad, "o.jsonl": "answers\n" })
    assert.strictEqual((await run(placesIn(dir, "s.jsonl", "o.jsonl"))).code, 2)
    assert.strictEqual(contents(dir)["o.jsonl"], "answers\n")
  })

  it("are told on standard error where their file cannot be made, and the rest goes on", async () => {
    const name = "s".repeat(245)
    const dir = workplace({ [`${name}.jsonl`]: bad + good })
    const { code, stderr } = await run(placesIn(dir, `${name}.jsonl`, "o.jsonl"))
    assert.strictEqual(code, 3)
    assert.match(
      stderr,
      /s\.rejected\.jsonl cannot be written: name too long\. Rows that cannot be used are told here\.\n/
    )
    assert.match(stderr, /s\.jsonl, line 1: not valid JSON/)
    assert.match(stderr, /1 row was rejected of 2; the lines above say why\.$/)
    assert.strictEqual(contents(dir)["o.jsonl"], '{"id":2}\n')
  })

  it("are kept where their file's name is taken meanwhile, and so is what took it", async () => {
    for (const rows of [bad + good, good]) {
      const dir = workplace({ "s.jsonl": rows })
      const meanwhile = Effect.sync(() => fs.writeFileSync(join(dir, "s.rejected.jsonl"), "mine\n"))
      const { code, stderr } = await run(placesIn(dir, "s.jsonl", "o.jsonl"), meanwhile)
      const { "o.jsonl": _, "s.jsonl": __, "s.rejected.jsonl": mine, ...others } = contents(dir)
      assert.strictEqual(mine, "mine\n")
      assert.strictEqual(code, rows === good ? 0 : 3)
      if (rows === good) continue
      const [[part, text]] = Object.entries(others) as [[string, string]]
      assert.include(text, "not valid JSON")
      assert.include(stderr, `${part} says why.`)
    }
  })

  it.skipIf(process.platform === "win32")("go beside the rows where the answers go into a pipe", async () => {
    const dir = workplace({ "s.jsonl": bad + good })
    fs.mkdirSync(join(dir, "pipes"))
    const pipe = join(dir, "pipes/o")
    execFileSync("mkfifo", [pipe])
    const read = fs.promises.readFile(pipe, "utf8")
    assert.strictEqual((await run(placesIn(dir, "s.jsonl", "pipes/o"))).code, 3)
    assert.strictEqual(await read, '{"id":2}\n')
    assert.deepStrictEqual(fs.readdirSync(join(dir, "pipes")), ["o"])
    assert.include(fs.readdirSync(dir), "s.rejected.jsonl")
  })
})

describe("what was done", () => {
  it("is said where no answers go, on standard output where these go elsewhere", async () => {
    const dir = workplace({ "s.jsonl": good })
    assert.deepStrictEqual(await run(placesIn(dir, "s.jsonl", "o.jsonl")), { code: 0, stdout: "done\n", stderr: "" })
  })
})

/** Standard input, output and error, of which only the output does something. */
const stdioOf = (stdout: Sink.Sink<void, string | Uint8Array, never, PlatformError>) =>
  Stdio.make({
    args: Effect.succeed([]),
    stdinIsTerminal: Effect.succeed(false),
    stdoutIsTerminal: Effect.succeed(false),
    stderrIsTerminal: Effect.succeed(false),
    stdout: () => stdout,
    stderr: () => Sink.drain,
    stdin: Stream.empty
  })

describe("answers on standard output", () => {
  const answers = (
    rows: string,
    stdout: Sink.Sink<void, string | Uint8Array, never, PlatformError>,
    answer: (row: ModelRows.ModelRow) => Effect.Effect<Result.Result<object, string>>
  ) => {
    const places = placesIn(workplace({ "s.jsonl": rows }), "s.jsonl")
    return RowFile.answer("test", places, RowFile.read(places.in, ModelRows.decode(["ids"])), answer, 4).pipe(
      Effect.provideService(Stdio.Stdio, stdioOf(stdout)),
      Effect.provideService(Progress.Progress, Progress.silent),
      Effect.provide(NodeServices.layer)
    )
  }

  it("leave as they are ready, in the order of the rows, and do not wait for the next", { timeout: 5000 }, async () => {
    const first = Promise.withResolvers<string>()
    const stdout = Sink.forEach((text: string | Uint8Array) =>
      Effect.sync(() => first.resolve(Buffer.from(text as string).toString()))
    )
    const fiber = answers(good.repeat(3), stdout, ({ id }) =>
      id === 2 ? Effect.never : Effect.succeed(Result.succeed({ id }))
    ).pipe(Effect.runFork)
    assert.strictEqual(await first.promise, '{"id":1}\n')
    await Effect.runPromise(Fiber.interrupt(fiber))
  })

  it("that it does not take end the command, with why", async () => {
    const cases = [
      [{ code: "EPIPE", errno: -32 }, "Standard output was closed before the last answer; use --out to keep all."],
      [{ code: "ENOSPC", errno: -28 }, /^Standard output cannot be written: no space left on device; use --out/]
    ] as const
    for (const [reason, said] of cases) {
      const cause = Object.assign(new Error("write"), reason)
      const full = Sink.fail(systemError({ _tag: "Unknown", module: "Stdio", method: "stdout", cause }))
      const error = await Effect.runPromise(
        Effect.flip(answers(good, full, ({ id }) => Effect.succeed(Result.succeed({ id }))))
      )
      assert.strictEqual(error._tag, "CommandError")
      assert.match(error.message, new RegExp(said))
    }
  })
})
