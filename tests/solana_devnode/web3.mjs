// Pays in SOL and in a token with @solana/web3.js 1, and prints what it saw as one line of JSON.
import * as web3 from "@solana/web3.js";
import * as spl from "@solana/spl-token";

const [http, ws] = process.argv.slice(2);
const link = new web3.Connection(http, { commitment: "confirmed", wsEndpoint: ws });
const payer = web3.Keypair.generate();
const owner = web3.Keypair.generate().publicKey;

const airdrop = await link.requestAirdrop(payer.publicKey, 100 * web3.LAMPORTS_PER_SOL);
await link.confirmTransaction({ signature: airdrop, ...(await link.getLatestBlockhash()) });

const transfer = web3.SystemProgram.transfer({ fromPubkey: payer.publicKey, toPubkey: owner, lamports: 1_000_000_000 });
const paid = await web3.sendAndConfirmTransaction(link, new web3.Transaction().add(transfer), [payer]);

const mint = await spl.createMint(link, payer, payer.publicKey, null, 6);
const from = await spl.getOrCreateAssociatedTokenAccount(link, payer, mint, payer.publicKey);
await spl.mintTo(link, payer, mint, from.address, payer, 1_000_000n);
const to = await spl.getOrCreateAssociatedTokenAccount(link, payer, mint, owner);
const sent = await spl.transferChecked(link, payer, from.address, mint, to.address, payer, 250_000n, 6);

const { value } = await link.getLatestBlockhashAndContext();
const message = new web3.TransactionMessage({
  payerKey: payer.publicKey, recentBlockhash: value.blockhash, instructions: [transfer],
}).compileToV0Message();
const newer = new web3.VersionedTransaction(message);
newer.sign([payer]);
const signature = await link.sendTransaction(newer);
await link.confirmTransaction({ signature, ...value });

let refused = "";
try {
  const most = web3.SystemProgram.transfer({ fromPubkey: payer.publicKey, toPubkey: owner, lamports: 1e12 });
  await web3.sendAndConfirmTransaction(link, new web3.Transaction().add(most), [payer]);
} catch (error) {
  refused = error.constructor.name;
}

const known = { commitment: "confirmed", maxSupportedTransactionVersion: 0 };
const found = await link.getTransaction(sent, known);
const block = await link.getBlock(found.slot, known);
const parsed = await link.getParsedTransaction(sent, known);
console.log(JSON.stringify({
  balance: await link.getBalance(owner),
  token: found.meta.postTokenBalances.find((held) => held.owner === owner.toBase58()).uiTokenAmount.amount,
  inBlock: block.transactions.some((landed) => landed.transaction.signatures[0] === sent),
  parsed: parsed.transaction.message.instructions[0].parsed.type,
  version: (await link.getTransaction(signature, known)).version,
  fee: (await link.getTransaction(paid, known)).meta.fee,
  refused,
}));
process.exit(0);
