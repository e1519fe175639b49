"""DsnTexts: what a delivery status notification says to people, a table for each language.

To add a language, write one more `Texts` and enter it in `TEXTS`; a test sees to it that it
explains what the others explain. Placeholders: {subject}, {host}, {until}, {count}.

A reason is found by the status code without its class (RFC 3463 §3): `1.1`, or else its subject,
`1`, or else the empty string. It is a sentence about what happened and one about what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Reason(NamedTuple):
    """What happened, and what the sender of the message can do about it."""

    what: str
    advice: str


@dataclass(frozen=True, slots=True)
class Texts:
    """All that is said in one language; five sentences have the name of the action they begin."""

    language: str  # of Content-Language (RFC 3282)
    sender_name: str
    no_subject: str
    subject_failed: str
    subject_delayed: str
    subject_done: str
    greeting: str
    failed: str
    delayed: str
    delivered: str
    relayed: str
    expanded: str
    said: str  # The next line is what the other server said.
    failed_end: str
    delayed_end: str
    delayed_until: str
    others: str
    reasons: Mapping[str, Reason]


ENGLISH = Texts(
    language="en",
    sender_name="Mail Delivery System",
    no_subject="(no subject)",
    subject_failed="Not delivered: {subject}",
    subject_delayed="Delayed: {subject}",
    subject_done="Delivered: {subject}",
    greeting='This is the mail server {host}. It writes to you about your message "{subject}".',
    failed="It could not be delivered to:",
    delayed="It has not been delivered yet to:",
    delivered="It was delivered to:",
    relayed=(
        "It was handed to another mail server, which does not report whether it arrives, for:"
    ),
    expanded="It was passed on to everybody behind this address:",
    said="The other server said:",
    failed_end=(
        "This server will not try again. Your message, or the beginning of it, is attached, so"
        " that you can tell which one it was."
    ),
    delayed_end="You need not send it again: this server keeps trying.",
    delayed_until="You will hear from it once more if it has not succeeded by {until}.",
    others="… and {count} more; the report that is attached names them all.",
    reasons={
        "": Reason(
            "The message was not taken, and the reason is not known.",
            "Try again later, or reach the person in another way.",
        ),
        "1": Reason(
            "The address was refused.",
            "Check the spelling of the address.",
        ),
        "1.1": Reason(
            "There is no such address.",
            "Check the spelling, or ask the person for the address.",
        ),
        "1.2": Reason(
            "The part after the @ is not a place that receives mail.",
            "Check the spelling of what follows the @.",
        ),
        "1.3": Reason(
            "The address is not written as an address must be.",
            "Check the spelling of the address.",
        ),
        "1.6": Reason(
            "The person has moved and left no new address.",
            "Ask the person for the new address.",
        ),
        "1.8": Reason(
            "The other server does not accept your own address as a sender.",
            "Ask the people who run your mail about the domain of your address.",
        ),
        "1.10": Reason(
            "The domain says that it receives no mail at all.",
            "Check the spelling of what follows the @.",
        ),
        "2": Reason(
            "The mailbox does not take the message.",
            "Reach the person in another way.",
        ),
        "2.1": Reason(
            "The mailbox is closed and takes no messages.",
            "Reach the person in another way.",
        ),
        "2.2": Reason(
            "The mailbox is full.",
            "Tell the person in another way, and send the message again later.",
        ),
        "2.3": Reason(
            "The message is larger than this mailbox takes.",
            "Send it without its attachments, or in smaller ones.",
        ),
        "3": Reason(
            "The other mail server could not take the message.",
            "Send it again later.",
        ),
        "3.4": Reason(
            "The message is larger than the other server takes.",
            "Send it without its attachments, or in smaller ones.",
        ),
        "4": Reason(
            "The other mail server could not be reached.",
            "Check the spelling of what follows the @, and send the message again later.",
        ),
        "4.1": Reason(
            "The other mail server did not answer.",
            "Send the message again later, or reach the person in another way.",
        ),
        "4.4": Reason(
            "No mail server was found for this address.",
            "Check the spelling of what follows the @, and send the message again later.",
        ),
        "4.6": Reason(
            "The message went round in circles between servers.",
            "Tell the people who run the mail of this address.",
        ),
        "4.7": Reason(
            "It was tried for days without success, and the time is over.",
            "Send the message again later, or reach the person in another way.",
        ),
        "5": Reason(
            "The two mail servers did not understand each other.",
            "Tell the people who run your mail, and show them this message.",
        ),
        "5.3": Reason(
            "The message has more recipients than the other server takes.",
            "Send it to fewer people at a time.",
        ),
        "6": Reason(
            "The other server cannot handle the form of this message.",
            "Send it as plain text, without attachments.",
        ),
        "6.7": Reason(
            "The address or the message has letters that the other server cannot handle.",
            "Use addresses of unaccented Latin letters only, if there are others for them.",
        ),
        "7": Reason(
            "The other server refused the message by its rules, perhaps as unwanted mail.",
            "Change what may look like advertising, or ask the person to allow your address.",
        ),
        "7.4": Reason(
            "The message requires a protection that the other server does not offer.",
            "Send it without that requirement, if it may travel unprotected.",
        ),
        "7.5": Reason(
            "No connection could be made that is as safe as it must be.",
            "Send the message again later; the other side must repair this.",
        ),
        "7.10": Reason(
            "The other server does not offer the encryption that it must.",
            "Send the message again later; the other side must repair this.",
        ),
        "7.25": Reason(
            "The other server does not trust the name of this server.",
            "Tell the people who run your mail, and show them this message.",
        ),
        "7.26": Reason(
            "The other server could not make sure that the message is from you.",
            "Tell the people who run your mail, and show them this message.",
        ),
        "7.30": Reason(
            "You asked that the message travel encrypted only, and the other server cannot.",
            "Send it without that wish, if it may travel unprotected.",
        ),
    },
)

KOREAN = Texts(
    language="ko",
    sender_name="메일 배달 시스템",
    no_subject="(제목 없음)",
    subject_failed="배달 실패: {subject}",
    subject_delayed="배달 지연: {subject}",
    subject_done="배달 완료: {subject}",
    greeting="메일 서버 {host}입니다. 보내신 메일 “{subject}”에 대해 알려 드립니다.",
    failed="다음 주소로 배달하지 못했습니다.",
    delayed="다음 주소로 아직 배달하지 못했습니다.",
    delivered="다음 주소로 배달했습니다.",
    relayed="다음 주소의 메일은 다른 서버에 넘겼습니다. 그 서버는 도착 여부를 알려 주지 않습니다.",
    expanded="다음 주소에 속한 모든 사람에게 전달했습니다.",
    said="상대 서버의 답:",
    failed_end=(
        "이 서버는 다시 시도하지 않습니다. 어느 메일인지 아실 수 있도록 보내신 메일의 전체나"
        " 앞부분을 첨부합니다."
    ),
    delayed_end="다시 보내지 않으셔도 됩니다. 이 서버가 계속 시도합니다.",
    delayed_until="{until}까지 배달하지 못하면 다시 알려 드립니다.",
    others="… 그 밖에 {count}개의 주소가 더 있습니다. 첨부된 보고서에 모두 적혀 있습니다.",
    reasons={
        "": Reason(
            "메일을 전하지 못했으나 이유를 알 수 없습니다.",
            "나중에 다시 보내시거나 다른 방법으로 연락해 주세요.",
        ),
        "1": Reason(
            "상대 서버가 이 주소를 받아들이지 않았습니다.",
            "주소를 바르게 쓰셨는지 확인해 주세요.",
        ),
        "1.1": Reason(
            "없는 주소입니다.",
            "주소를 바르게 쓰셨는지 확인하시거나 받는 분께 주소를 물어보세요.",
        ),
        "1.2": Reason(
            "@ 뒤의 도메인은 메일을 받지 않는 곳입니다.",
            "@ 뒤를 바르게 쓰셨는지 확인해 주세요.",
        ),
        "1.3": Reason(
            "메일 주소의 형식에 맞지 않습니다.",
            "주소를 바르게 쓰셨는지 확인해 주세요.",
        ),
        "1.6": Reason(
            "받는 분이 주소를 옮겼으며 새 주소를 남기지 않았습니다.",
            "받는 분께 새 주소를 물어보세요.",
        ),
        "1.8": Reason(
            "상대 서버가 보내는 분의 주소를 받아들이지 않습니다.",
            "쓰시는 메일의 관리자에게 주소의 도메인에 대해 문의해 주세요.",
        ),
        "1.10": Reason(
            "이 도메인은 메일을 전혀 받지 않는다고 밝히고 있습니다.",
            "@ 뒤를 바르게 쓰셨는지 확인해 주세요.",
        ),
        "2": Reason(
            "받는 분의 편지함이 이 메일을 받지 않습니다.",
            "다른 방법으로 연락해 주세요.",
        ),
        "2.1": Reason(
            "편지함이 닫혀 있어 메일을 받지 않습니다.",
            "다른 방법으로 연락해 주세요.",
        ),
        "2.2": Reason(
            "받는 분의 편지함이 가득 찼습니다.",
            "다른 방법으로 알려 주시고, 나중에 다시 보내 주세요.",
        ),
        "2.3": Reason(
            "메일이 이 편지함이 받는 크기보다 큽니다.",
            "첨부 파일을 빼거나 줄여서 보내 주세요.",
        ),
        "3": Reason(
            "상대 메일 서버가 메일을 받지 못했습니다.",
            "나중에 다시 보내 주세요.",
        ),
        "3.4": Reason(
            "메일이 상대 서버가 받는 크기보다 큽니다.",
            "첨부 파일을 빼거나 줄여서 보내 주세요.",
        ),
        "4": Reason(
            "상대 메일 서버에 연결하지 못했습니다.",
            "@ 뒤를 바르게 쓰셨는지 확인하시고 나중에 다시 보내 주세요.",
        ),
        "4.1": Reason(
            "상대 메일 서버가 응답하지 않았습니다.",
            "나중에 다시 보내시거나 다른 방법으로 연락해 주세요.",
        ),
        "4.4": Reason(
            "이 주소의 메일 서버를 찾지 못했습니다.",
            "@ 뒤를 바르게 쓰셨는지 확인하시고 나중에 다시 보내 주세요.",
        ),
        "4.6": Reason(
            "메일이 서버 사이를 맴돌았습니다.",
            "이 주소의 메일을 관리하는 곳에 알려 주세요.",
        ),
        "4.7": Reason(
            "여러 날 동안 시도했으나 배달하지 못한 채 기한이 지났습니다.",
            "나중에 다시 보내시거나 다른 방법으로 연락해 주세요.",
        ),
        "5": Reason(
            "두 메일 서버가 서로의 말을 이해하지 못했습니다.",
            "쓰시는 메일의 관리자에게 이 메일을 보여 주세요.",
        ),
        "5.3": Reason(
            "상대 서버가 받는 것보다 받는 사람이 많습니다.",
            "받는 사람을 나누어 보내 주세요.",
        ),
        "6": Reason(
            "상대 서버가 이 메일의 형식을 처리하지 못합니다.",
            "첨부 파일 없이 일반 텍스트로 보내 주세요.",
        ),
        "6.7": Reason(
            "주소나 메일에 상대 서버가 처리하지 못하는 글자가 있습니다.",
            "영문 주소가 따로 있으면 그 주소를 써 주세요.",
        ),
        "7": Reason(
            "상대 서버가 자체 규칙에 따라 거절했습니다. 스팸으로 여겼을 수 있습니다.",
            "광고처럼 보일 만한 내용을 고치시거나, 받는 분께 주소를 허용해 달라고 부탁해 보세요.",
        ),
        "7.4": Reason(
            "상대 서버가 이 메일에 필요한 보호 기능을 제공하지 않습니다.",
            "보호 없이 보내도 되는 메일이면 그 조건 없이 보내 주세요.",
        ),
        "7.5": Reason(
            "충분히 안전한 연결을 맺지 못했습니다.",
            "나중에 다시 보내 주세요. 상대 쪽에서 고쳐야 하는 문제입니다.",
        ),
        "7.10": Reason(
            "상대 서버가 꼭 필요한 암호화를 제공하지 않습니다.",
            "나중에 다시 보내 주세요. 상대 쪽에서 고쳐야 하는 문제입니다.",
        ),
        "7.25": Reason(
            "상대 서버가 이 서버의 이름을 믿지 않습니다.",
            "쓰시는 메일의 관리자에게 이 메일을 보여 주세요.",
        ),
        "7.26": Reason(
            "상대 서버가 보낸 사람이 맞는지 확인하지 못했습니다.",
            "쓰시는 메일의 관리자에게 이 메일을 보여 주세요.",
        ),
        "7.30": Reason(
            "암호화된 길로만 보내 달라고 하셨으나 상대 서버가 지원하지 않습니다.",
            "보호 없이 보내도 되는 메일이면 그 조건 없이 보내 주세요.",
        ),
    },
)

TEXTS: Mapping[str, Texts] = {texts.language: texts for texts in (ENGLISH, KOREAN)}


def texts_for(language: str) -> Texts:
    """Return the texts of a language tag (RFC 5646 §2.1), English where there are none."""
    return TEXTS.get(language.replace("_", "-").partition("-")[0].lower(), ENGLISH)


def reason_for(texts: Texts, status: str) -> Reason:
    """Return why, by a status code such as `5.1.1`; something can be said of any."""
    subject_and_detail = status.partition(".")[2]
    reasons = texts.reasons
    found = reasons.get(subject_and_detail) or reasons.get(subject_and_detail.partition(".")[0])
    return found or reasons[""]
