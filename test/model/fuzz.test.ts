/**
 * Broken files: a model folder either opens, or says in one sentence which file is wrong and how.
 *
 * The seed is printed; `CHARTER_FUZZ_SEED` sets another and `CHARTER_FUZZ_CASES` another number of cases.
 */
import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Option } from "effect"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import * as ChatTemplate from "../../src/model/ChatTemplate.ts"
import * as Checkpoint from "../../src/model/Checkpoint.ts"
import * as Finite from "../../src/model/Finite.ts"
import * as Lora from "../../src/model/Lora.ts"
import * as Tokenizer from "../../src/model/Tokenizer.ts"
import * as Mutation from "./Mutation.ts"
import * as Victim from "./victim.ts"

const seed = Number(process.env["CHARTER_FUZZ_SEED"] ?? 20_251_123)
const cases = Number(process.env["CHARTER_FUZZ_CASES"] ?? 20_000)
const kinds = ["llama3", "mistral", "unigram"] as const

const text = "<s> Hi, it's 42!\n  é 日本 🙂 <|im_end|>"
const messages = [
  { role: "system", content: "s" },
  { role: "user", content: text },
  { role: "assistant", content: "" }
]

const openModel = (dir: string) => Effect.flatMap(Checkpoint.open(dir), Finite.check)

const useTokenizer = Effect.fnUntraced(function* (dir: string) {
  const tokenizer = yield* Tokenizer.load(dir, Victim.model.vocabSize)
  const ids = tokenizer.encode(text)
  if (ids.some((id) => !Number.isSafeInteger(id) || id < 0)) throw new Error(`the ids ${ids}`)
  if (typeof tokenizer.decode(ids) !== "string") throw new Error("no text")
})

const useTemplate = Effect.fnUntraced(function* (dir: string) {
  const template = yield* ChatTemplate.load(dir)
  if (Option.isNone(template)) return
  const rendered = yield* template.value.render(messages, { addGenerationPrompt: true })
  if (typeof rendered !== "string") throw new Error("no text")
})

type Use = (dir: string) => Effect.Effect<unknown, { readonly message: string }>

/** What reads which file. */
const targets: ReadonlyArray<readonly [file: string, share: number, uses: ReadonlyArray<Use>]> = [
  ["whole/model.safetensors", 4, [openModel]],
  ["whole/config.json", 3, [openModel]],
  ["whole/generation_config.json", 1, [openModel]],
  ["shards/model-00002-of-00002.safetensors", 1, [openModel]],
  ["shards/model.safetensors.index.json", 2, [openModel]],
  ["whole/tokenizer.json", 3, [useTokenizer]],
  ["whole/tokenizer_config.json", 2, [useTokenizer, useTemplate]],
  ["shards/chat_template.jinja", 2, [useTemplate]],
  ["adapter/adapter_config.json", 2, [(dir) => Lora.read(dir, Victim.model)]],
  ["adapter/adapter_model.safetensors", 2, [(dir) => Lora.read(dir, Victim.model), (dir) => Lora.read(dir)]]
]
const turns = targets.flatMap((target) => Array<typeof target>(target[1]).fill(target))

let root = ""
beforeAll(() => {
  // In memory where the system has such a folder: a disk takes most of the time otherwise.
  console.log(`${cases} broken files, seed ${seed}`)
  root = fs.mkdtempSync(path.join(fs.existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "charter-fuzz-"))
})
afterAll(() => fs.rmSync(root, { recursive: true, force: true }))

describe(`broken files, seed ${seed}`, () => {
  for (const [part, kind] of kinds.entries()) {
    it.effect(
      `open or say why: ${Math.ceil((cases - part) / kinds.length)} cases with the ${kind} tokenizer`,
      () =>
        Effect.gen(function* () {
          const dir = path.join(root, kind)
          yield* Victim.write(dir, kind)
          const outcomes = { opened: 0, refused: 0 }
          for (let i = part; i < cases; i += kinds.length) {
            const [file, , uses] = turns[Math.floor(i / kinds.length) % turns.length]!
            const target = path.join(dir, file)
            const whole = fs.readFileSync(target)
            const about = `seed ${seed}, case ${i}, ${file}`
            fs.writeFileSync(target, Mutation.mutate(file, whole, seed, i))
            for (const use of uses) {
              const exit = yield* Effect.exit(Effect.suspend(() => use(path.dirname(target))))
              if (Exit.isSuccess(exit)) {
                outcomes.opened++
                continue
              }
              outcomes.refused++
              if (exit.cause.reasons.some((reason) => reason._tag !== "Fail")) {
                throw new Error(`${about}: ${Cause.pretty(exit.cause)}`)
              }
              const { message } = Cause.squash(exit.cause) as Error
              const said = `${about}: ${message}`
              expect(message.includes(path.dirname(target)), said).toBe(true)
              expect(message.endsWith("."), said).toBe(true)
              expect(message.length, said).toBeLessThan(800)
              // eslint-disable-next-line no-control-regex
              expect(/[\u0000-\u001f\u007f\u2028\u2029\u202e]/.test(message), said).toBe(false)
            }
            fs.writeFileSync(target, whole)
          }
          expect(outcomes.opened).toBeGreaterThan(0)
          expect(outcomes.refused).toBeGreaterThan(cases / kinds.length / 4)
          // The folder itself is whole.
          yield* openModel(path.join(dir, "whole"))
          yield* openModel(path.join(dir, "shards"))
          yield* useTokenizer(path.join(dir, "whole"))
          yield* useTemplate(path.join(dir, "shards"))
          yield* Lora.read(path.join(dir, "adapter"), Victim.model)
        }),
      300_000
    )
  }

  it("take little memory", () => {
    expect(process.memoryUsage().rss).toBeLessThan(1.5e9)
  })
})
