/**
 * StandardOutput: what happens where it does not take what a command says, such as on a full disk.
 */
import * as Bytes from "../data/Bytes.ts"

/**
 * Listens for failures, which would end the program with a stack after its work was done, or not be noticed. They are
 * told at its end, unless the command has told of them itself. A reader who goes has read enough, which is no failure.
 */
export const listen = (): void => {
  let failure: NodeJS.ErrnoException | undefined
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") failure ??= error
  })
  process.on("exit", (code) => {
    if (failure === undefined || code !== 0) return
    const reason = Bytes.reasonOf({ message: failure.message, cause: failure })
    process.stderr.write(
      `Standard output cannot be written: ${reason}; all else is done, and the same command says it again.\n`
    )
    process.exitCode = 1
  })
}
