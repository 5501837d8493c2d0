/**
 * charter: the command line, as one tree of commands.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Logger } from "effect"
import { CliOutput, Command } from "effect/cli"
import * as Exit from "./Exit.ts"
import * as Generate from "./generate.ts"
import * as Inspect from "./inspect.ts"
import * as Run from "./run.ts"
import * as Score from "./score.ts"
import * as Train from "./train.ts"
import { version } from "./Version.ts"

const charter = Command.make("charter").pipe(
  Command.withDescription("Constitutional AI end to end: critique, revise, prefer, reinforce"),
  Command.withSubcommands([Run.command, Inspect.command, Generate.command, Score.command, Train.command])
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

/**
 * How long an interrupted run may take to end. A worker in the middle of native code does not hear that it should end;
 * after 5 s it would be terminated, which ends the process with an abort.
 */
const patience = 4000

/** Ends the process as a signal does: nothing waits, nothing is cleaned up. Shells report this as 130, too. */
const endAtOnce = () => {
  process.stderr.write(`\nInterrupted; to go on: ${again()}\n`)
  process.removeAllListeners("SIGINT")
  process.kill(process.pid, "SIGINT")
}

/** Runs the command line of this process. */
export const main = (): void => {
  let signals = 0
  const onSignal = () => {
    // The run folder is closed within milliseconds; what takes time is the engine, and it holds nothing to be kept.
    if (signals++ > 0) endAtOnce()
    else setTimeout(endAtOnce, patience).unref()
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
