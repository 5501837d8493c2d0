/** Trainings of the tiny llama through the command line, in this process or in one of their own that is killed. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect } from "effect"
import { Command } from "effect/cli"
import { spawn } from "node:child_process"
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs"
import { join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import * as Exit from "../../src/cli/Exit.ts"
import * as Train from "../../src/cli/train.ts"
import * as Progress from "../../src/recipes/Progress.ts"
import * as Random from "../../src/Random.ts"

export const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))
export const tiny = fileURLToPath(new URL("../fixtures/tiny-llama", import.meta.url))
export const sandbox = fileURLToPath(new URL("../../assets/sandbox", import.meta.url))

export { workplace } from "../workplace.ts"

/** Runs `charter train ...` to its end, in this process; what is said is what the program would say. */
export const train = async (...args: ReadonlyArray<string>) => {
  const said = { stdout: "", stderr: "" }
  const console = {
    ...globalThis.console,
    log: (...words: ReadonlyArray<unknown>) => void (said.stdout += `${words.join(" ")}\n`),
    error: (...words: ReadonlyArray<unknown>) => void (said.stderr += `${words.join(" ")}\n`)
  }
  const exit = await Command.runWith(Train.command, { version: "test" })(args).pipe(
    Effect.provide(NodeServices.layer),
    Effect.provideService(Console.Console, console as Console.Console),
    Effect.provideService(Progress.Progress, Progress.silent),
    Effect.exit,
    Effect.runPromise
  )
  return { ...said, status: Exit.code(exit), stderr: said.stderr + (Exit.words(exit, "") ?? "") }
}

/** Starts `charter train ...` and kills it so many milliseconds after it is `ready`; whether it was running then. */
export const killed = (ready: () => boolean, after: number, ...args: ReadonlyArray<string>): Promise<boolean> =>
  new Promise((resolve) => {
    const child = spawn(process.execPath, [main, "train", ...args], { stdio: "ignore" })
    let timer: NodeJS.Timeout | undefined
    const look = setInterval(() => {
      if (!ready()) return
      clearInterval(look)
      timer = setTimeout(() => child.kill("SIGKILL"), after)
    }, 5)
    child.on("exit", (_, signal) => {
      clearInterval(look)
      clearTimeout(timer)
      resolve(signal === "SIGKILL")
    })
  })

export const jsonl = (file: string, rows: ReadonlyArray<unknown>): string => {
  writeFileSync(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(""))
  return file
}

export const lines = (file: string): ReadonlyArray<Record<string, unknown>> =>
  readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>)

/** Rows of token ids of several lengths, with labels on their second half. */
export const tokenRows = (count: number, seed = 1) =>
  Array.from({ length: count }, (_, i) => {
    const random = Random.make(seed, "row", i)
    const input_ids = Array.from({ length: 6 + random.int(18) }, () => 3 + random.int(300))
    return { input_ids, labels: input_ids.map((id, t) => (t < input_ids.length / 2 ? -100 : id)) }
  })

const clock = ["seconds", "tokens_per_second"]

/** Everything in a folder that does not tell the time, by name. */
export const contents = (dir: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(dir, { recursive: true, encoding: "utf8" })
      .map((name) => join(dir, name))
      .filter((file) => statSync(file).isFile())
      .map((file): readonly [string, string] => {
        const name = relative(dir, file)
        if (name === "metrics.jsonl") {
          return [
            name,
            JSON.stringify(lines(file).map((line) => Object.entries(line).filter(([key]) => !clock.includes(key))))
          ]
        }
        if (name !== "summary.json") return [name, readFileSync(file, "base64")]
        const summary = Object.entries(JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>)
        return [name, JSON.stringify(summary.filter(([key]) => ![...clock, "first", "last"].includes(key)))]
      })
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
  )
