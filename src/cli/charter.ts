/**
 * charter: the command line, as one tree of commands.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Logger } from "effect"
import { CliOutput, Command } from "effect/cli"
import * as Exit from "./Exit.ts"
import * as Run from "./run.ts"
import { version } from "./Version.ts"

const charter = Command.make("charter").pipe(
  Command.withDescription("Constitutional AI end to end: critique, revise, prefer, reinforce"),
  Command.withSubcommands([Run.command])
)

/** A wrong invocation is answered with what is wrong, not with a page of help in which it is lost. */
const presenter: CliOutput.Presenter = {
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Console.error(
          `${event.errors.map(({ message }) => message).join("\n")}\nSee ${event.commandPath.join(" ")} --help.`
        )
      : CliOutput.defaultPresenter.present(event)
}

/** The same command once more, as it would be typed. */
const again = (): string => {
  const quote = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)
  return ["charter", ...process.argv.slice(2).map(quote)].join(" ")
}

/** How long an interrupted run may take to end before it is ended; its folder survives that. */
const patience = 10_000

/** Runs the command line of this process. */
export const main = (): void => {
  let signals = 0
  const onSignal = () => {
    // A second signal, or a model that does not come back from native code: records are on disk already.
    if (signals++ > 0) process.exit(130)
    setTimeout(() => process.exit(130), patience).unref()
  }
  process.on("SIGINT", onSignal)
  process.on("SIGTERM", onSignal)
  Command.run(charter, { version }).pipe(
    Effect.provide(CliOutput.layerPresenter(presenter)),
    Effect.provide(NodeServices.layer),
    Effect.provideService(Logger.LogToStderr, true),
    NodeRuntime.runMain({
      disableErrorReporting: true,
      teardown: (exit, onExit) => {
        const words = Exit.words(exit, again())
        if (words !== undefined) process.stderr.write(`${words}\n`)
        onExit(Exit.code(exit))
      }
    })
  )
}
