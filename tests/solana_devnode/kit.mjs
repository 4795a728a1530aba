// Hears slots, pays and waits with @solana/kit, and prints what it saw as one line of JSON.
import * as kit from "@solana/kit";
import { getTransferSolInstruction } from "@solana-program/system";

const [http, ws] = process.argv.slice(2);
const rpc = kit.createSolanaRpc(http);
const rpcSubscriptions = kit.createSolanaRpcSubscriptions(ws);
const payer = await kit.generateKeyPairSigner();
const owner = await kit.generateKeyPairSigner();

const abort = new AbortController();
const slots = await rpcSubscriptions.slotNotifications().subscribe({ abortSignal: abort.signal });
const heard = [];
for await (const slot of slots) {
  heard.push(Number(slot.slot));
  if (heard.length === 3) break;
}
abort.abort();

await kit.airdropFactory({ rpc, rpcSubscriptions })({
  commitment: "confirmed", lamports: kit.lamports(100_000_000_000n), recipientAddress: payer.address,
});
const { value: latest } = await rpc.getLatestBlockhash({ commitment: "confirmed" }).send();
const message = kit.pipe(
  kit.createTransactionMessage({ version: 0 }),
  (one) => kit.setTransactionMessageFeePayerSigner(payer, one),
  (one) => kit.setTransactionMessageLifetimeUsingBlockhash(latest, one),
  (one) => kit.appendTransactionMessageInstruction(
    getTransferSolInstruction({ source: payer, destination: owner.address, amount: 1_000_000_000n }), one),
);
const signed = await kit.signTransactionMessageWithSigners(message);
await kit.sendAndConfirmTransactionFactory({ rpc, rpcSubscriptions })(signed, { commitment: "confirmed" });
const signature = kit.getSignatureFromTransaction(signed);

const { value: [status] } = await rpc.getSignatureStatuses([signature]).send();
const block = await rpc.getBlock(status.slot, {
  commitment: "confirmed", maxSupportedTransactionVersion: 0, transactionDetails: "accounts", rewards: false,
}).send();
const { value: balance } = await rpc.getBalance(owner.address, { commitment: "confirmed" }).send();
let code = 0;
try {
  await rpc.getBlock(10n ** 9n, { commitment: "confirmed" }).send();
} catch (error) {
  code = error.context.__code;
}
console.log(JSON.stringify({
  heard,
  status: status.confirmationStatus,
  balance: Number(balance),
  inBlock: block.transactions.some((landed) => landed.transaction.signatures[0] === signature),
  code,
}));
process.exit(0);
