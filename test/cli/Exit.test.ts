import { assert, describe, it } from "@effect/vitest"
import { Cause, Exit } from "effect"
import { CommandError } from "../../src/cli/CommandError.ts"
import * as CliExit from "../../src/cli/Exit.ts"
import { DataError } from "../../src/data/DataError.ts"

const again = "charter it"
const interrupted = Exit.failCause(Cause.interrupt())

describe("what a program says at its end", () => {
  it("is how to go on, where the same command does", () => {
    const failed = Exit.fail(new DataError({ file: "f", message: "The disk is full." }))
    assert.strictEqual(CliExit.words(interrupted, again), "Interrupted; to go on: charter it")
    assert.strictEqual(
      CliExit.words(failed, again),
      "The disk is full.\nWhat was finished is kept; to go on: charter it"
    )
    assert.strictEqual(CliExit.words(failed, again, false), "The disk is full.")
  })

  it("is that it begins again, where nothing is kept", () => {
    assert.strictEqual(
      CliExit.words(interrupted, again, false),
      "Interrupted; nothing is kept to go on from. To begin again: charter it"
    )
    assert.strictEqual(CliExit.words(Exit.fail(new CommandError({ message: "No." })), again, false), "No.")
    assert.strictEqual(CliExit.code(interrupted), 130)
  })
})
