/**
 * charter: the command line, as one tree of commands.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Logger } from "effect"
import { CliOutput, Command } from "effect/cli"
import * as Again from "./Again.ts"
import * as Exit from "./Exit.ts"
import * as Generate from "./generate.ts"
import * as Interruption from "./Interruption.ts"
import * as Inspect from "./inspect.ts"
import * as Run from "./run.ts"
import * as Score from "./score.ts"
import * as StandardOutput from "./StandardOutput.ts"
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

/** The commands, and whether the same one once more goes on where it ended. */
const resumes: Readonly<Record<string, boolean>> = {
  run: true,
  train: true,
  generate: false,
  score: false,
  inspect: false
}

/** Runs the command line of this process. */
export const main = (): void => {
  const again = Again.words(process.argv.slice(2))
  const goesOn = resumes[process.argv.slice(2).find((word) => Object.hasOwn(resumes, word)) ?? ""] ?? false
  StandardOutput.listen()
  Interruption.listen(() => Exit.interrupted(again, goesOn))
  Command.run(charter, { version }).pipe(
    Effect.provide(CliOutput.layerPresenter(presenter)),
    Effect.provide(NodeServices.layer),
    Effect.provideService(Logger.LogToStderr, true),
    NodeRuntime.runMain({
      disableErrorReporting: true,
      teardown: (exit, onExit) => {
        const words = Exit.words(exit, again, goesOn)
        if (words !== undefined) process.stderr.write(`${words}\n`)
        onExit(Exit.code(exit))
      }
    })
  )
}
